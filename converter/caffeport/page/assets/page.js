"use strict";
const content = JSON.parse(document.getElementById("content").textContent);
const net = content.net, report = content.report;
const find = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const SOURCE_COLOURS = ["var(--weighted)", "var(--pooling)", "var(--normalization)", "var(--activation)"];
const SOURCE_NAMES = { torch: "PyTorch", onnx: "ONNX Runtime", "onnx, folded": "the exported ONNX file", caffe: "Caffe", reference: "Caffe, recorded" };
const KIND_NAMES = { data: "input", weighted: "convolution, inner product", activation: "activation",
  normalization: "normalization", pooling: "pooling", loss: "loss, metric", other: "other" };
const sourceName = (name) => SOURCE_NAMES[name] || name;
const counted = new Intl.NumberFormat("en");
const count = (number) => counted.format(number);
const error = (number) => (number === null ? "not finite" : number === 0 ? "0" : number.toExponential(1));

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

// Head

function short(number) {
  for (const [size, unit] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (number >= size) return `${(number / size).toPrecision(3)} ${unit}`;
  }
  return String(number);
}

function showHead() {
  document.title = content.title;
  find("title").textContent = content.title;
  const shapes = (pairs) => pairs.map(([name, shape]) => `${name} ${shape}`).join(", ") || "none";
  find("subtitle").textContent = `${net.phase} phase · ${count(net.layers.length)} layers · ${short(net.parameters)} parameters · ` +
    `${short(net.multiply_adds)} multiply-adds · in: ${shapes(net.inputs)} · out: ${shapes(net.outputs)}`;
  if (!report) return;
  const box = find("verdict");
  box.hidden = false;
  box.classList.add(report.ok ? "ok" : "failed");
  box.append(element("b", {}, report.verdict), report.summary);
  if (report.random_weights) box.append(element("div", { class: "warning" }, `Weights: ${net.weights}`));
  const bad = report.rows.find((row) => !row.ok);
  if (bad && bad.layer !== null) box.append(" ", element("button", { onclick: () => choose(bad.layer, true) }, "show it"));
}

function showFacts() {
  const facts = [["weights", net.weights]];
  for (const [name, shape] of net.inputs) facts.push([`input ${name}`, shape]);
  for (const [name, shape] of net.outputs) facts.push([`output ${name}`, shape]);
  for (const [name, value] of Object.entries(net.preprocessing)) facts.push([`preprocessing: ${name}`, value]);
  if (report) facts.push(["tolerance", `${report.rtol} relative + ${report.atol} absolute`]);
  if (report && report.caffe) facts.push(["Caffe", report.caffe]);
  for (const [name, value] of Object.entries(content.provenance)) facts.push([name, value]);
  for (const [name, value] of facts) find("facts").append(element("dt", {}, name), element("dd", {}, String(value)));
}

// Drawing: moving and zooming

const bad = new Set(report ? report.rows.filter((row) => !row.ok && row.layer !== null).map((row) => row.layer) : []);
const drawing = find("drawing");
let layout, group, view = { x: 0, y: 0, scale: 1 }, chosen = -1, matches = [], matchAt = -1;

function apply(glide = false) {
  drawing.classList.toggle("gliding", glide);
  group.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.scale})`);
  group.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
}

function zoom(factor, x = drawing.clientWidth / 2, y = drawing.clientHeight / 2) {
  const scale = Math.min(4, Math.max(0.01, view.scale * factor));
  view.x = x - ((x - view.x) * scale) / view.scale;
  view.y = y - ((y - view.y) * scale) / view.scale;
  view.scale = scale;
  apply();
}

function whole() {
  const scale = Math.min(drawing.clientWidth / layout.width, drawing.clientHeight / layout.height, 1.5);
  view = { scale, x: (drawing.clientWidth - layout.width * scale) / 2, y: (drawing.clientHeight - layout.height * scale) / 2 };
  apply(true);
}

function beginning() {
  const first = layout.blocks[0];
  const scale = Math.min(1, Math.max(0.55, drawing.clientWidth / (layout.width + 20)));
  const middle = layout.width * scale <= drawing.clientWidth ? layout.width / 2 : first ? first.x + first.width / 2 : 0;
  view = { scale, x: drawing.clientWidth / 2 - middle * scale, y: 4 };
  apply();
}

function centre(number) {
  const block = layout.blocks.find((one) => one.layers.includes(number));
  if (!block) return;
  const scale = Math.max(view.scale, 0.8);
  view = {
    scale, x: drawing.clientWidth / 2 - (block.x + block.width / 2) * scale,
    y: drawing.clientHeight / 2 - (block.y + (block.layers.indexOf(number) + 0.5) * ROW) * scale,
  };
  apply(true);
}

function follow(pointers, moved) {
  drawing.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, event);
    moved.far = false;
  });
  drawing.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const box = drawing.getBoundingClientRect();
    if (pointers.size === 1) {
      if (!moved.far && Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) < 4) return;
      if (!moved.far) drawing.setPointerCapture(event.pointerId);
      moved.far = true;
      drawing.classList.add("moving");
      view.x += event.clientX - before.clientX;
      view.y += event.clientY - before.clientY;
      apply();
    } else {
      moved.far = true;
      const other = [...pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
      zoom(apart(event) / apart(before), (event.clientX + other.clientX) / 2 - box.left, (event.clientY + other.clientY) / 2 - box.top);
    }
    pointers.set(event.pointerId, event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    drawing.addEventListener(name, (event) => {
      pointers.delete(event.pointerId);
      drawing.classList.remove("moving");
    });
  }
  drawing.addEventListener("click", (event) => {
    const layer = event.target.closest(".layer");
    if (layer && !moved.far) choose(Number(layer.dataset.layer));
  });
}

function showDrawing() {
  layout = layoutNet(net);
  drawing.innerHTML = `${ARROW}<g class="net">${drawNet(net, layout, bad)}</g>`;
  group = drawing.querySelector(".net");
  beginning();
  follow(new Map(), { far: false });
  drawing.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = drawing.getBoundingClientRect();
    zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });
  const kinds = [...new Set(net.layers.map((layer) => layer.kind))];
  for (const name of kinds) find("legend").append(element("span", {}, element("i", { style: `background: var(--${name})` }), KIND_NAMES[name]));
}

// A layer's panel

function histogram(blob) {
  if (!blob.histogram) return blob.min === undefined ? null : element("div", {}, `every number is ${blob.min}`);
  const most = Math.max(...blob.histogram), svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "histogram");
  svg.setAttribute("viewBox", `0 0 ${blob.histogram.length} 1`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.innerHTML = blob.histogram.map((value, i) =>
    `<rect x="${i + 0.05}" width="0.9" y="${1 - value / most}" height="${value / most}"/>`).join("");
  return svg;
}

function fact(list, name, value) {
  if (value !== "") list.append(element("dt", {}, name), element("dd", { class: "numbers" }, value));
}

function panelOf(number) {
  const layer = net.layers[number], list = element("dl", { class: "facts" });
  fact(list, "bottoms", layer.bottoms.join(", "));
  fact(list, "tops", layer.tops.map(([name, shape]) => `${name} ${shape}`).join(", "));
  fact(list, "parameters", layer.parameters ? count(layer.parameters) : "");
  fact(list, "multiply-adds", layer.multiply_adds ? count(layer.multiply_adds) : "");
  fact(list, "line", layer.line ? String(layer.line) : "");
  const parts = [element("button", { class: "close", "aria-label": "close", onclick: () => choose(-1) }, "×"),
    element("h3", {}, layer.name), element("div", {}, layer.type), list];
  for (const row of report ? report.rows.filter((one) => one.layer === number) : []) {
    const errors = Object.entries(row.errors).map(([name, [largest, relative]]) =>
      `${sourceName(row.baseline)} − ${sourceName(name)}: max abs ${error(largest)}, max rel ${error(relative)}`);
    parts.push(element("p", { class: row.ok ? "" : "bad" }, `${row.blob}: `, errors.join("; ") || row.note, errors.length && row.note ? ` (${row.note})` : ""));
  }
  if (layer.text) parts.push(element("pre", {}, layer.text));
  for (const blob of layer.blobs) {
    const words = blob.min === undefined ? "no finite number" :
      `${blob.min.toPrecision(3)} to ${blob.max.toPrecision(3)}, mean ${blob.mean.toPrecision(3)}, deviation ${blob.std.toPrecision(3)}`;
    parts.push(element("div", {}, element("b", {}, blob.name), ` ${blob.shape}${blob.shared ? ", shared" : ""}`));
    parts.push(element("div", { class: "numbers" }, words + (blob.finite ? "" : "; not all numbers are finite")), histogram(blob));
  }
  return parts.filter((part) => part !== null);
}

function choose(number, go = false) {
  drawing.querySelectorAll(".chosen").forEach((one) => one.classList.remove("chosen"));
  chosen = number;
  const panel = find("panel");
  panel.hidden = number < 0;
  find("stage").classList.toggle("open", number >= 0);
  history.replaceState(null, "", number < 0 ? "#" : `#${encodeURIComponent(net.layers[number].name)}`);
  if (number < 0) return;
  drawing.querySelector(`[data-layer="${number}"]`).classList.add("chosen");
  panel.replaceChildren(...panelOf(number));
  panel.scrollTop = 0;
  if (go) {
    centre(number);
    find("net-heading").scrollIntoView({ block: "start" });
  }
}

// Search and keys

function search(text) {
  drawing.querySelectorAll(".found").forEach((one) => one.classList.remove("found"));
  const wanted = text.trim().toLowerCase();
  const blobs = (layer) => layer.tops.map((top) => top[0]);
  matches = wanted ? net.layers.flatMap((layer, number) =>
    [layer.name, layer.type, ...blobs(layer)].some((word) => word.toLowerCase().includes(wanted)) ? [number] : []) : [];
  matches.forEach((number) => drawing.querySelector(`[data-layer="${number}"]`).classList.add("found"));
  matchAt = -1;
  find("count").textContent = wanted ? `${matches.length} found` : "";
}

function nextMatch(step) {
  if (!matches.length) return;
  matchAt = (matchAt + step + matches.length) % matches.length;
  find("count").textContent = `${matchAt + 1} of ${matches.length}`;
  choose(matches[matchAt]);
  centre(matches[matchAt]);
}

function neighbour(step) {
  const next = Math.min(net.layers.length - 1, Math.max(0, chosen + step));
  choose(next);
  centre(next);
}

function listen() {
  find("search").addEventListener("input", (event) => search(event.target.value));
  find("search").addEventListener("keydown", (event) => {
    if (event.key === "Enter") nextMatch(event.shiftKey ? -1 : 1);
    if (event.key === "Escape") { event.target.value = ""; search(""); drawing.focus(); }
  });
  find("closer").addEventListener("click", () => zoom(1.3));
  find("wider").addEventListener("click", () => zoom(1 / 1.3));
  find("whole").addEventListener("click", whole);
  find("natural").addEventListener("click", beginning);
  find("theme").addEventListener("click", changeTheme);
  drawing.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60], PageDown: [0, -400], PageUp: [0, 400] };
    if (moves[event.key]) {
      view.x += moves[event.key][0];
      view.y += moves[event.key][1];
      apply();
    } else if (event.key === "+" || event.key === "=") zoom(1.3);
    else if (event.key === "-") zoom(1 / 1.3);
    else if (event.key === "0") whole();
    else if (event.key === "n") neighbour(1);
    else if (event.key === "p") neighbour(-1);
    else if (event.key === "Escape") choose(-1);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.closest("input") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") { find("search").focus(); event.preventDefault(); }
    if (event.key === "t") changeTheme();
  });
}

// The layer that the address names behind its #, so that a link can lead to it.
function openFromAddress() {
  const name = decodeURIComponent(location.hash.slice(1)), number = net.layers.findIndex((layer) => layer.name === name);
  if (name && number >= 0 && number !== chosen) {
    choose(number);
    centre(number);
  }
}

function changeTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

// Errors over depth

const HEIGHT = 260, LEFT = 52, RIGHT = 10, TOP = 10, BOTTOM = 24;

function drawChart(points, sources) {
  const chart = find("chart"), width = Math.max(280, chart.clientWidth);
  const values = points.map((point) => point.relative).filter((value) => value > 0);
  const low = Math.floor(Math.log10(Math.min(1e-8, ...values))), high = Math.ceil(Math.log10(Math.max(report.rtol * 10, ...values)));
  const x = (at) => LEFT + ((width - LEFT - RIGHT) * (at + 0.5)) / report.rows.length;
  const y = (value) => {
    const level = value === null ? high : Math.max(low, value > 0 ? Math.log10(value) : low);
    return HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * (level - low)) / (high - low);
  };
  const line = (kind, value) => `<line class="${kind}" x1="${LEFT}" x2="${width - RIGHT}" y1="${y(value)}" y2="${y(value)}"/>`;
  const parts = [];
  for (let level = low; level <= high; level += Math.ceil((high - low) / 8)) {
    parts.push(line("axis", 10 ** level), `<text x="${LEFT - 6}" y="${y(10 ** level) + 4}" text-anchor="end">1e${level}</text>`);
  }
  if (report.rtol > 0) parts.push(line("limit", report.rtol));
  points.forEach((point, number) => {
    const words = `${point.row.blob} (${point.row.type}): ${sourceName(point.name)} ${error(point.relative)}`;
    parts.push(`<circle data-point="${number}" class="${point.row.ok ? "" : "bad"}" cx="${x(point.at).toFixed(1)}" cy="${y(point.relative).toFixed(1)}" ` +
      `r="${width < 600 ? 2.2 : 3}" fill="${SOURCE_COLOURS[sources.indexOf(point.name) % SOURCE_COLOURS.length]}"><title>${escapeText(words)}</title></circle>`);
  });
  parts.push(`<text x="${LEFT}" y="${HEIGHT - 6}">first layer</text><text x="${width - RIGHT}" y="${HEIGHT - 6}" text-anchor="end">last layer</text>`);
  chart.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
  chart.innerHTML = parts.join("");
}

function showChart() {
  const sources = [...new Set(report.rows.flatMap((row) => Object.keys(row.errors)))];
  const points = report.rows.flatMap((row, at) => Object.entries(row.errors).map(([name, [, relative]]) => ({ row, at, name, relative })));
  if (!points.length) return;
  find("errors").hidden = false;
  drawChart(points, sources);
  addEventListener("resize", () => drawChart(points, sources));
  find("chart").addEventListener("click", (event) => {
    const point = points[event.target.dataset.point];
    if (point && point.row.layer !== null) choose(point.row.layer, true);
  });
  const baselines = [...new Set(report.rows.map((row) => row.baseline).filter(Boolean))].map(sourceName).join(", ");
  sources.forEach((name, i) => find("chart-legend").append(element("span", {}, element("i", { style: `background: ${SOURCE_COLOURS[i % SOURCE_COLOURS.length]}` }), `${sourceName(name)} against ${baselines}`)));
  find("chart-legend").append(element("span", {}, element("i", { style: "background: var(--bad)" }), `dashed: the tolerance, ${report.rtol}`));
}

// Tables

function table(id, columns, rows, open = null) {
  const body = element("tbody");
  const opening = (row) => ({ tabindex: "0", onclick: () => open(row), onkeydown: (event) => event.key === "Enter" && open(row) });
  let order = null, down = true;
  const fill = () => {
    const sorted = order === null ? rows : [...rows].sort((a, b) => {
      const one = columns[order].value(a), two = columns[order].value(b);
      return (one < two ? -1 : one > two ? 1 : 0) * (down ? -1 : 1);
    });
    body.replaceChildren(...sorted.filter((row) => !row.hidden).map((row) =>
      element("tr", { class: row.bad ? "bad" : "", ...(open ? opening(row) : {}) },
        ...columns.map((column) => element("td", { class: column.class }, column.text(row))))));
  };
  const head = element("tr", {}, ...columns.map((column, i) => element("th", { class: column.class },
    element("button", { onclick: () => { down = order === i ? !down : column.class.includes("number"); order = i; fill(); } }, column.title))));
  find(id).append(element("thead", {}, head), body);
  fill();
  return fill;
}

function showRows() {
  find("blobs").hidden = false;
  const worst = (row, i) => Math.max(-1, ...Object.values(row.errors).map((pair) => (pair[i] === null ? Infinity : pair[i])));
  const shown = (row, i) => (worst(row, i) < 0 ? "" : worst(row, i) === Infinity ? "not finite" : error(worst(row, i)));
  const layerName = (row) => (row.layer === null ? "" : net.layers[row.layer].name);
  const rows = report.rows.map((row) => ({ ...row, bad: !row.ok }));
  const compared = (row) => [row.baseline, ...Object.keys(row.errors)].filter(Boolean).map(sourceName).join(" = ");
  const columns = [
    { title: "blob", class: "", value: (row) => row.blob, text: (row) => row.blob },
    { title: "layer", class: "wide", value: layerName, text: layerName },
    { title: "type", class: "wide fit", value: (row) => row.type, text: (row) => row.type },
    { title: "shape", class: "wide fit", value: (row) => row.shape, text: (row) => row.shape },
    { title: "compared", class: "wide", value: compared, text: (row) => (Object.keys(row.errors).length ? compared(row) : "") + (row.note ? ` (${row.note})` : "") },
    { title: "max abs", class: "number", value: (row) => worst(row, 0), text: (row) => shown(row, 0) },
    { title: "max rel", class: "number", value: (row) => worst(row, 1), text: (row) => shown(row, 1) },
    { title: "", class: "fit", value: (row) => row.ok, text: (row) => (!row.ok ? "differs" : Object.keys(row.errors).length ? "equal" : "not compared") },
  ];
  const fill = table("rows", columns, rows, (row) => row.layer !== null && choose(row.layer, true));
  find("only-bad").addEventListener("change", (event) => {
    rows.forEach((row) => { row.hidden = event.target.checked && row.ok && Object.keys(row.errors).length > 0; });
    fill();
  });
}

function showCosts() {
  const rows = net.layers.map((layer, number) => ({ layer, number }));
  const tops = (row) => row.layer.tops.map(([name, shape]) => `${name} ${shape}`).join(", ");
  const share = (row) => (net.multiply_adds ? row.layer.multiply_adds / net.multiply_adds : 0);
  table("costs", [
    { title: "layer", class: "", value: (row) => row.number, text: (row) => row.layer.name },
    { title: "type", class: "fit", value: (row) => row.layer.type, text: (row) => row.layer.type },
    { title: "tops", class: "wide", value: tops, text: tops },
    { title: "parameters", class: "number", value: (row) => row.layer.parameters, text: (row) => (row.layer.parameters ? count(row.layer.parameters) : "") },
    { title: "multiply-adds", class: "number wide", value: (row) => row.layer.multiply_adds, text: (row) => (row.layer.multiply_adds ? count(row.layer.multiply_adds) : "") },
    { title: "share", class: "number", value: share, text: (row) => (share(row) ? `${(100 * share(row)).toFixed(1)} %` : "") },
  ], rows, (row) => choose(row.number, true));
}

function showPreprocessing() {
  const suggestion = report.suggestion;
  if (!suggestion) return;
  find("preprocessing").hidden = false;
  find("preprocessing-verdict").textContent = `None was given; ${suggestion.verdict}.`;
  find("reasons").append(...suggestion.reasons.map((reason) => element("li", {}, reason)));
  const number = (at) => (line) => (line[at] === "" ? Infinity : Number(line[at]));
  const columns = suggestion.headings.map((title, at) => {
    const words = at < 2 || at === suggestion.headings.length - 1;
    return { title, class: words ? "" : "number", value: words ? (line) => line[at] : number(at), text: (line) => line[at] };
  });
  table("ways", columns, suggestion.lines);
}

showHead();
showFacts();
if (report) { showPreprocessing(); showChart(); showRows(); }
showCosts();
showDrawing();
listen();
openFromAddress();
addEventListener("hashchange", openFromAddress);
document.documentElement.dataset.ready = "yes";
