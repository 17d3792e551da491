// Numbers, times and elements as the page writes them. Text goes in as text, never as HTML: labels and reasons are data.

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") node.className = value;
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// A link, or the plain words where there is no address that a browser may follow.
export function link(words, address) {
  const safe = address && (/^https?:\/\//.test(address) || address.startsWith("../"));
  return safe ? make("a", { href: address }, words) : make("span", {}, words);
}

export function number(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

export function megabytes(value) {
  return `${number(value, value < 10 ? 1 : 0)} MB`;
}

export function seconds(value) {
  if (value < 120) return `${Math.round(value)} s`;
  if (value < 7200) return `${Math.round(value / 60)} min`;
  return `${(value / 3600).toFixed(1)} h`;
}

const STEPS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

// "3 days ago" with the exact time on hover.
export function when(iso) {
  const moment = new Date(iso);
  const away = (moment - Date.now()) / 1000;
  const step = STEPS.find(([, size]) => Math.abs(away) >= size);
  const words = step ? relative.format(Math.trunc(away / step[1]), step[0]) : away > 0 ? "in a moment" : "just now";
  return make("time", { datetime: iso, title: moment.toLocaleString() }, words);
}
