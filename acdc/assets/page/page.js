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
        label: "data(label)", "text-valign": "center", "font-size": 11, width: "data(width)", height: 22,
        shape: "round-rectangle", "background-color": "#e3e3e3", "border-width": 1, "border-color": "#1a1a1a",
      },
    },
    { selector: "node[component = 'head']", style: { shape: "ellipse", "background-color": "#ffffff" } },
    { selector: "node.layer", style: { events: "no", "background-opacity": 0, "border-width": 0, color: "#6e6e6e" } },
    {
      selector: "edge",
      style: {
        width: "data(width)", "line-color": "data(color)", "target-arrow-color": "data(color)", opacity: 0.75,
        "target-arrow-shape": "triangle", "arrow-scale": 0.7, "curve-style": "unbundled-bezier",
        "control-point-distances": "data(bow)", "control-point-weights": 0.5,
      },
    },
    { selector: ".near", style: { "overlay-color": "#0072b2", "overlay-opacity": 0.15 } },
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

function everything() {
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
}

cy.on("mouseover", "node, edge", (event) => {
  event.target.addClass("near");
  if (event.target.isNode()) event.target.connectedEdges().addClass("near");
  describe(event.target);
});
cy.on("mouseout", "node, edge", () => cy.elements().removeClass("near"));
cy.on("tap", "node, edge", (event) => isolate(event.target));
cy.on("tap", (event) => event.target === cy && everything());
element("slider").addEventListener("input", (event) => show(event.target.valueAsNumber));
element("search").addEventListener("input", search);
element("everything").addEventListener("click", () => {
  element("search").value = "";
  everything();
  cy.fit(undefined, 20);
});
element("controls").addEventListener("submit", (event) => event.preventDefault());

element("slider").max = data.circuits.length - 1;
element("slider").value = data.start;
for (const name of new Set(data.circuits.flatMap((circuit) => circuit.nodes.map((node) => node.id)))) {
  element("names").append(new Option(name));
}
legend();
show(data.start);
cy.fit(undefined, 20);
