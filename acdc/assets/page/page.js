"use strict";
// One circuit of a sweep at a time. All that is shown is in the page's own data.
const data = JSON.parse(document.getElementById("data").textContent);
const element = (id) => document.getElementById(id);
const LISTED = 20; // rows of the lists beside the graph

const cy = cytoscape({
  container: element("graph"),
  layout: { name: "preset" },
  minZoom: 0.05,
  maxZoom: 4,
  style: [
    {
      selector: "node",
      style: {
        label: "data(label)", "text-valign": "center", "font-size": data.font, width: "data(width)", height: 22,
        shape: "round-rectangle", "border-width": 1,
      },
    },
    { selector: "node[fill]", style: { "background-color": "data(fill)", "border-color": "data(border)" } },
    { selector: "node[component = 'head']", style: { shape: "ellipse" } },
    { selector: "node[component = 'head'][named != 'none']", style: { "border-width": 2.5 } },
    { selector: "node[?failed]", style: { "border-style": "dashed" } },
    { selector: "node.layer", style: { events: "no", "background-opacity": 0, "border-width": 0, color: "#6e6e6e" } },
    {
      selector: "edge",
      style: {
        width: "data(width)", "line-color": "data(color)", "target-arrow-color": "data(color)", opacity: 0.75,
        "target-arrow-shape": "triangle", "arrow-scale": 0.7, "curve-style": "unbundled-bezier",
        "control-point-distances": "data(bow)", "control-point-weights": 0.5,
      },
    },
    { selector: ".near", style: { "overlay-color": "#0072b2", "overlay-opacity": 0.15, "overlay-padding": 3 } },
    { selector: ".off", style: { opacity: 0.06 } },
    { selector: "node.found", style: { "border-width": 4, "border-color": "#d55e00" } },
  ],
});
window.cy = cy; // for the console

let shown; // the circuit that the slider is at

function show(index) {
  shown = data.circuits[index];
  cy.elements().remove();
  cy.add(data.layers.map((layer) => ({ ...layer, classes: "layer", grabbable: false, selectable: false })));
  cy.add(shown.nodes.map((node) => ({ data: node, position: { ...data.positions[node.id] } })));
  cy.add(shown.edges.map((edge) => ({ data: edge })));
  element("value").value = shown.value;
  element("summary").textContent = shown.summary;
  list("nodes", shown.nodes);
  list("edges", shown.edges);
  describe(null);
  unpin();
  if (element("search").value) search();
}

// Numbers as the tables have them, four digits.
const number = (value) => (value === null ? "" : Number(value.toPrecision(4)).toString());

function list(id, entries) {
  const seen = new Set(); // an edge into a group of heads is several in the graph and one in the circuit
  const rows = entries
    .filter((entry) => entry.effect !== null && !seen.has(entry.name) && seen.add(entry.name))
    .sort((a, b) => Math.abs(b.effect) - Math.abs(a.effect))
    .slice(0, LISTED)
    .map((entry) => {
      const [row, button, effect] = ["li", "button", "span"].map((tag) => document.createElement(tag));
      effect.className = "number";
      effect.textContent = number(entry.effect);
      button.append(entry.name, effect);
      button.addEventListener("click", () => focus(cy.getElementById(entry.id)));
      row.append(button);
      return row;
    });
  element(id).replaceChildren(...(rows.length ? rows : ["not measured"]));
}

function describe(target) {
  const details = element("details");
  if (!target) {
    details.textContent = data.help;
    return;
  }
  const heading = document.createElement("h3");
  heading.textContent = target.data("name");
  const terms = document.createElement("dl");
  for (const [term, text] of target.data("facts")) {
    const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
    dt.textContent = term;
    dd.textContent = text;
    terms.append(dt, dd);
  }
  details.replaceChildren(heading, terms);
}

function focus(target) {
  describe(target);
  cy.elements().removeClass("found");
  target.filter("node").addClass("found");
  cy.animate({ fit: { eles: isolate(target), padding: 40 }, duration: 200 });
}

// Only what leads from here to the logits, and what feeds it where that is asked for. Returns it.
function isolate(target) {
  const start = target.isNode() ? target : target.union(target.target());
  const toLogits = cy.getElementById("logits").predecessors().union(cy.getElementById("logits"));
  let kept = start.union(start.successors()).intersection(toLogits).union(target);
  if (element("upstream").checked) {
    const end = target.isNode() ? target : target.source();
    kept = kept.union(end).union(end.predecessors());
  } else if (target.isEdge()) {
    kept = kept.union(target.source());
  }
  cy.elements().not(".layer").addClass("off");
  kept.removeClass("off");
  return kept;
}

// Where heads attend to.

let pinned = null; // the head whose attention stays when the pointer leaves it

function attend(node) {
  const card = element("attention");
  const patterns = data.attention && data.attention.patterns[node.id()];
  card.hidden = !patterns;
  if (!patterns) return;
  const [i, { x, y }] = [element("prompt").selectedIndex, node.renderedPosition()];
  const prompt = data.attention.prompts[i];
  const heading = document.createElement("h3");
  heading.textContent = `${node.id()}: how much each row attends to each column`;
  const both = document.createElement("div");
  both.append(...["clean", "corrupted"].map((side, s) => heat(side, prompt[side], labelsOf(prompt, s), patterns[i][s])));
  card.replaceChildren(heading, both);
  const { width, height } = element("canvas").getBoundingClientRect();
  const right = x < width / 2; // beside the node, not on it
  Object.assign(card.style, { left: right ? "" : "8px", right: right ? "8px" : "" });
  Object.assign(card.style, { top: y < height / 2 ? "" : "8px", bottom: y < height / 2 ? "8px" : "" });
}

// By position, the names of the labels that stand there.
function labelsOf(prompt, side) {
  const names = {};
  for (const [name, at] of Object.entries(prompt.labels)) {
    if (at[side] !== null) names[at[side]] = names[at[side]] ? `${names[at[side]]}, ${name}` : name;
  }
  return names;
}

function heat(side, tokens, labels, encoded) {
  const [shares, n] = [Uint8Array.from(atob(encoded), (letter) => letter.charCodeAt(0)), tokens.length];
  const room = (element("canvas").clientWidth - 300) / 2;
  const cell = Math.max(3, Math.min(14, Math.floor(room / n)));
  const table = document.createElement("table");
  table.className = "heat";
  table.style.fontSize = `${Math.min(11, cell - 1)}px`;
  table.createCaption().textContent = side;
  const header = (row, i) => {
    const th = document.createElement("th");
    const text = tokens[i].trim() || JSON.stringify(tokens[i]);
    th.textContent = cell < 9 ? "" : labels[i] ? `${text} (${labels[i]})` : text;
    th.title = tokens[i];
    th.classList.toggle("labelled", i in labels);
    row.append(th);
  };
  const top = table.createTHead().insertRow();
  top.append(document.createElement("td"));
  for (let key = 0; key < n; key += 1) header(top, key);
  const body = table.createTBody();
  for (let query = 0; query < n; query += 1) {
    const row = body.insertRow();
    header(row, query);
    for (let key = 0; key < n; key += 1) {
      const [td, share] = [row.insertCell(), shares[query * n + key] / 255];
      Object.assign(td.style, { width: `${cell}px`, height: `${cell}px`, minWidth: `${cell}px` });
      td.style.background = `rgba(0, 114, 178, ${share.toFixed(3)})`;
      td.title = `${tokens[query].trim()} to ${tokens[key].trim()}: ${share.toFixed(2)}`;
    }
  }
  return table;
}

function pin(node) {
  pinned = node;
  element("attention").classList.add("pinned");
  attend(node);
}

function unpin() {
  pinned = null;
  element("attention").classList.remove("pinned");
  element("attention").hidden = true;
}

function prompts() {
  const shownPrompts = data.attention ? data.attention.prompts : [];
  element("prompts").hidden = !shownPrompts.length;
  for (const prompt of shownPrompts) element("prompt").append(new Option(prompt.clean.join("").trim()));
}

function everything() {
  unpin();
  cy.elements().removeClass("off found");
  describe(null);
}

// "9.6" and "A9.H6" are a9.h6 too.
function named(text) {
  const name = text.trim().toLowerCase().replace(/^(\d+)[.:](\d+)$/, "a$1.h$2");
  return name.replace(/^mlp ?(\d+)$/, "m$1");
}

function search() {
  const text = element("search").value;
  everything();
  if (!text.trim()) return;
  const name = named(text);
  const node = cy.getElementById(name);
  if (node.nonempty() && !node.hasClass("layer")) {
    focus(node);
    return;
  }
  const elsewhere = data.circuits.filter((c) => c.nodes.some((n) => n.id === name)).map((c) => c.value);
  const where = elsewhere.length ? `It is at ${data.size} ${elsewhere.join(", ")}.` : "It is in none of the sweep.";
  element("details").textContent = `${name} is not in this circuit. ${where}`;
}

function legend() {
  const spans = data.legend.map(([name, color]) => {
    const [span, line] = [document.createElement("span"), document.createElement("i")];
    line.style.background = color;
    span.append(line, name);
    return span;
  });
  element("legend").replaceChildren("edges into ", ...spans);
  const classes = data.names.map(([name, fill, color]) => {
    const [span, mark] = [document.createElement("span"), document.createElement("i")];
    Object.assign(mark.style, { background: fill, borderColor: color });
    span.append(mark, name);
    return span;
  });
  const dashed = classes.length ? ["dashed: fails its test"] : [];
  element("classes").replaceChildren(...classes, ...dashed);
}

cy.on("mouseover", "node, edge", (event) => {
  event.target.addClass("near");
  if (event.target.isNode()) event.target.connectedEdges().addClass("near");
  describe(event.target);
  if (event.target.isNode() && !pinned) attend(event.target);
});
cy.on("mouseout", "node, edge", () => {
  cy.elements().removeClass("near");
  if (!pinned) element("attention").hidden = true;
});
cy.on("tap", "node, edge", (event) => {
  isolate(event.target);
  if (event.target.isNode()) pin(event.target);
});
element("prompt").addEventListener("change", () => pinned && attend(pinned));
cy.on("tap", (event) => event.target === cy && everything());
element("slider").addEventListener("input", (event) => show(event.target.valueAsNumber));
element("search").addEventListener("input", search);
element("everything").addEventListener("click", () => {
  element("search").value = "";
  everything();
  fit();
});
element("controls").addEventListener("submit", (event) => event.preventDefault());

element("slider").max = data.circuits.length - 1;
element("slider").value = data.start;
for (const name of new Set(data.circuits.flatMap((circuit) => circuit.nodes.map((node) => node.id)))) {
  element("names").append(new Option(name));
}
// All of the graph or, where its labels would be too small, the part up to the logits.
const [LEAST, MOST, MARGIN] = [11, 1.2, 12]; // pixels of a label, how large a small graph is drawn, pixels
function fit() {
  cy.fit(undefined, MARGIN);
  if (cy.zoom() > MOST) {
    cy.zoom(MOST);
    cy.center();
  }
  if (cy.elements().empty() || cy.zoom() * data.font >= LEAST) return;
  cy.zoom(LEAST / data.font);
  cy.center();
  const box = cy.elements().renderedBoundingBox();
  const logits = cy.getElementById("logits").renderedPosition();
  const beyond = { x: Math.max(0, box.w / 2 - cy.width() / 2 + MARGIN), y: Math.max(0, box.h / 2 - cy.height() / 2 + MARGIN) };
  const lies = box.x2 - logits.x < logits.y - box.y1; // the logits are at the right, else on top
  cy.panBy(lies ? { x: -beyond.x, y: 0 } : { x: 0, y: beyond.y });
}

window.addEventListener("resize", () => {
  cy.resize();
  fit();
});

legend();
prompts();
show(data.start);
fit();
