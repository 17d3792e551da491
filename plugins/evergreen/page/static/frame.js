// Airflow shows the page in a frame whose sandbox lets no link lead out of it, neither to a DAG nor to MLflow. Both are of one
// origin, so the page around it follows the link: in the same tab within Airflow, in a new one to anywhere else.

function around() {
  try {
    return window.parent !== window && window.parent.document.body ? window.parent : null;
  } catch {
    return null; // of another origin: its own business
  }
}

export const framed = around() !== null;

// What a person sees in the address bar.
export const address = () => (around() ?? window).location.href;

export function follow(event) {
  const link = event.target.closest("a[href]");
  const outside = around();
  if (!outside || !link) return;
  event.preventDefault();
  const copy = outside.document.createElement("a");
  copy.href = link.href;
  if (link.origin !== location.origin || event.ctrlKey || event.metaKey || event.shiftKey) {
    copy.target = "_blank";
    copy.rel = "noopener";
  }
  outside.document.body.append(copy);
  copy.click();
  copy.remove();
}
