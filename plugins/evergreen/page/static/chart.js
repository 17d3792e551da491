// The gate's metric of every registered version with its interval: an inline SVG, drawn anew when its width changes.

const HEIGHT = 150;
const LEFT = 44, RIGHT = 14, TOP = 14, BOTTOM = 26;

function svg(tag, attributes, text) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== undefined) node.textContent = text;
  return node;
}

// Round values between the lowest and the highest: two to five of them.
function ticks(low, high) {
  const step = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100]
    .find((size) => (high - low) / size <= 4) ?? (high - low) / 4;
  const found = [];
  for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) found.push(value);
  return { found, digits: step < 0.01 ? 3 : step < 0.1 ? 2 : step < 1 ? 1 : 0 };
}

function tell(point, metric, champion) {
  const bars = point.low === null ? "" : ` [${point.low.toFixed(4)}, ${point.high.toFixed(4)}]`;
  return `version ${point.version}${champion ? " (champion)" : ""}: ${metric} ${point.value.toFixed(4)}${bars}, ` +
    `${point.variant}, registered ${new Date(point.registered).toLocaleString()}`;
}

// points: with a value, oldest first. champion: its version.
function draw(points, metric, champion, width) {
  const all = points.flatMap((point) => [point.value, point.low ?? point.value, point.high ?? point.value]);
  const spread = Math.max(Math.max(...all) - Math.min(...all), 0.004);
  const low = Math.min(...all) - spread * 0.08, high = Math.max(...all) + spread * 0.08;
  const y = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - low) / (high - low));
  const gap = (width - LEFT - RIGHT) / points.length;
  const x = (position) => LEFT + gap * (position + 0.5);
  const newest = points[points.length - 1];
  const root = svg("svg", {
    viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": `${metric} of ${points.length} versions; the newest: ${tell(newest, metric, newest.version === champion)}`,
  });
  const { found, digits } = ticks(low, high);
  for (const value of found) {
    root.append(svg("line", { class: "rule", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }));
    root.append(svg("text", { class: "tick", x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, value.toFixed(digits)));
  }
  const path = points.map((point, position) => `${x(position)},${y(point.value)}`).join(" ");
  root.append(svg("polyline", { class: "path", points: path }));
  const every = Math.ceil(points.length / Math.max(1, Math.floor((width - LEFT) / 34)));
  points.forEach((point, position) => root.append(mark(point, position)));
  return root;

  function mark(point, position) {
    const serves = point.version === champion;
    const group = svg("g", { class: serves ? "point champion" : "point", "data-version": point.version });
    const at = x(position), cap = Math.min(5, gap / 4);
    if (point.low !== null) {
      for (const edge of [point.low, point.high]) {
        group.append(svg("line", { class: "bar", x1: at - cap, x2: at + cap, y1: y(edge), y2: y(edge) }));
      }
      group.append(svg("line", { class: "bar", x1: at, x2: at, y1: y(point.low), y2: y(point.high) }));
    }
    group.append(svg("circle", { cx: at, cy: y(point.value), r: serves ? 6 : 3.5 }));
    if (serves || (points.length - 1 - position) % every === 0) {
      group.append(svg("text", { class: "tick", x: at, y: HEIGHT - 8, "text-anchor": "middle" }, `v${point.version}`));
    }
    group.append(svg("title", {}, tell(point, metric, serves)));
    return group;
  }
}

export function chart(row) {
  const points = row.history.filter((point) => point.value !== null);
  const place = document.createElement("div");
  place.className = "chart";
  if (!points.length) return place;
  let drawn = 0;
  new ResizeObserver(([entry]) => {
    const width = Math.floor(entry.contentRect.width);
    if (width < 40 || width === drawn) return;
    drawn = width;
    place.replaceChildren(draw(points, row.metric, row.champion?.version, width));
  }).observe(place);
  return place;
}
