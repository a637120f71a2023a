"use strict";
// A net as a drawing: layers that follow one another without a branch stand in one block, dagre places the blocks.
// Runs in a browser and, for `caffeport show --svg`, in a JavaScript engine without a document.

const ROW = 22, PAD = 8, LETTER = 6.7, SMALL_LETTER = 5.9, MOST_ROWS = 60;

function escapeText(text) {
  return String(text).replace(/[&<>"']/g, (mark) => `&#${mark.charCodeAt(0)};`);
}

// [[layer numbers], ...]: a layer joins the block of the layer before it where nothing else enters or leaves between.
function blocksOf(net) {
  const into = net.layers.map(() => new Set()), out = net.layers.map(() => new Set());
  for (const [from, to] of net.edges) { into[to].add(from); out[from].add(to); }
  const blockOf = new Array(net.layers.length).fill(-1), blocks = [];
  net.layers.forEach((_, layer) => {
    const before = into[layer].size === 1 ? [...into[layer]][0] : -1;
    const block = before >= 0 && out[before].size === 1 ? blockOf[before] : -1;
    if (block >= 0 && blocks[block].length < MOST_ROWS) {
      blocks[block].push(layer);
      blockOf[layer] = block;
    } else {
      blockOf[layer] = blocks.push([layer]) - 1;
    }
  });
  return { blocks, blockOf };
}

function shorten(text, most) {
  return text.length <= most ? text : `${text.slice(0, Math.ceil(most / 2) - 1)}…${text.slice(-Math.floor(most / 2))}`;
}

function rowText(layer) {
  return { name: shorten(layer.name, 40), type: shorten(layer.type, 28), shape: layer.tops.map((top) => top[1]).join(" ") };
}

function layoutNet(net) {
  const { blocks, blockOf } = blocksOf(net);
  const graph = new dagre.graphlib.Graph();
  graph.setGraph({ rankdir: "TB", nodesep: 28, ranksep: 30, marginx: 12, marginy: 12, ranker: "longest-path" });
  graph.setDefaultEdgeLabel(() => ({}));
  const sizes = blocks.map((layers) => {
    const texts = layers.map((number) => rowText(net.layers[number]));
    const width = Math.max(...texts.map((t) => t.name.length * LETTER + (t.type.length + shorten(t.shape, 24).length) * SMALL_LETTER));
    return { width: Math.max(150, width + 5 * PAD), height: layers.length * ROW };
  });
  sizes.forEach((size, block) => graph.setNode(String(block), { ...size }));
  const joined = new Map();
  for (const [from, to, shape] of net.edges) {
    const a = blockOf[from], b = blockOf[to];
    if (a !== b) joined.set(`${a} ${b}`, { from: a, to: b, shape });
  }
  for (const { from, to } of joined.values()) graph.setEdge(String(from), String(to));
  dagre.layout(graph);
  const placed = blocks.map((layers, block) => {
    const node = graph.node(String(block));
    return { layers, width: node.width, height: node.height, x: node.x - node.width / 2, y: node.y - node.height / 2 };
  });
  const edges = [...joined.values()].map(({ from, to, shape }) => ({
    shape, points: graph.edge(String(from), String(to)).points,
  }));
  const size = graph.graph();
  return { blocks: placed, edges, width: size.width || 0, height: size.height || 0 };
}

function curve(points) {
  const at = (p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`;
  if (points.length < 3) return `M${points.map(at).join("L")}`;
  let path = `M${at(points[0])}`;
  for (let i = 1; i < points.length - 2; i++) {
    const middle = { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
    path += `Q${at(points[i])} ${at(middle)}`;
  }
  return `${path}Q${at(points[points.length - 2])} ${at(points[points.length - 1])}`;
}

// The inner part of the drawing; `bad` is the set of layers that a check found different.
function drawNet(net, layout, bad = new Set()) {
  const parts = ['<g class="edges">'];
  for (const edge of layout.edges) parts.push(`<path d="${curve(edge.points)}" marker-end="url(#arrow)"/>`);
  parts.push("</g>");
  for (const block of layout.blocks) {
    parts.push(`<g transform="translate(${block.x.toFixed(1)} ${block.y.toFixed(1)})">`);
    parts.push(`<rect class="block" width="${block.width.toFixed(1)}" height="${block.height}" rx="6"/>`);
    block.layers.forEach((number, row) => {
      const layer = net.layers[number], text = rowText(layer), y = row * ROW;
      const nameEnd = 2 * PAD + text.name.length * LETTER;
      parts.push(
        `<g class="layer ${layer.kind}${bad.has(number) ? " bad" : ""}" data-layer="${number}" transform="translate(0 ${y})">`,
        `<title>${escapeText(layer.name)} (${escapeText(layer.type)}): ${escapeText(text.shape)}</title>`,
        `<rect class="hit" width="${block.width.toFixed(1)}" height="${ROW}"/>`,
        `<rect class="mark" x="2" y="3" width="4" height="${ROW - 6}" rx="2"/>`,
        `<text class="name" x="${1.5 * PAD}" y="15">${escapeText(text.name)}</text>`,
        `<text class="type" x="${nameEnd.toFixed(1)}" y="15">${escapeText(text.type)}</text>`,
        `<text class="shape" x="${(block.width - PAD).toFixed(1)}" y="15" text-anchor="end">${escapeText(shorten(text.shape, 24))}</text>`,
        "</g>");
    });
    parts.push("</g>");
  }
  return parts.join("");
}

const ARROW =
  '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">' +
  '<path class="arrow" d="M0 0L8 4L0 8z"/></marker></defs>';

// A drawing that stands alone; `style` is the text of drawing.css.
function standaloneSvg(net, style) {
  const layout = layoutNet(net);
  const width = Math.ceil(layout.width), height = Math.ceil(layout.height);
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
    `role="img" aria-label="${escapeText(net.name)}"><style>${style}</style>${ARROW}<rect class="paper" width="100%" height="100%"/>` +
    `<g class="net">${drawNet(net, layout)}</g></svg>\n`;
}
