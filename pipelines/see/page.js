// Draws what the page carries as JSON; follows the reader's light or dark, and the window's width.
"use strict";
const drawn = JSON.parse(document.getElementById("drawn").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const touched = window.matchMedia("(hover: none)");
// Cividis without the end that is lost on the paper: golden is good on either.
const scale = () => dark.matches
  ? [[0, "#5b6690"], [0.5, "#9a9488"], [1, "#FEE838"]]
  : [[0, "#00224E"], [0.5, "#7C7B78"], [1, "#D9B62A"]];

function themed(layout) {
  const style = getComputedStyle(document.documentElement);
  const of = name => style.getPropertyValue(name).trim();
  const axis = { gridcolor: of("--line"), zerolinecolor: of("--line"), linecolor: of("--line") };
  const themed = { ...layout, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    modebar: { bgcolor: "rgba(0,0,0,0)" }, font: { color: of("--ink"), size: 12 }, autosize: true };
  for (const name of Object.keys(layout)) if (/^[xy]axis/.test(name)) themed[name] = { ...axis, ...layout[name] };
  return themed;
}

function draw(id, figure) {
  for (const trace of figure.data) if (trace.type === "parcoords") trace.line.colorscale = scale();
  document.getElementById(id).style.minHeight = figure.layout.height ? `${figure.layout.height}px` : "";
  Plotly.react(id, figure.data, themed(figure.layout),
    { responsive: true, displaylogo: false, displayModeBar: touched.matches ? false : "hover" });
}

// Every trial in the plane of two hyperparameters, and the box of each zoom.
function pair(table, x, y) {
  const values = table.value, [low, high] = table.range;
  const best = table.trial.map(t => t === table.best);
  const points = { type: "scatter", mode: "markers", x: table.unit[x], y: table.unit[y],
    text: table.trial.map((t, i) => `trial ${t}: ${values[i]} (${table.stage[i]}, ${table.status[i].toLowerCase()})`),
    hovertemplate: "%{text}<extra></extra>",
    marker: { size: best.map(b => b ? 16 : 6), color: values, colorscale: scale(), reversescale: !table.maximize,
      symbol: best.map((b, i) => b ? "star" : table.stage[i] === "fine" ? "diamond" : "circle"),
      cmin: low, cmax: high, line: { width: 0.5, color: "#888" }, colorbar: { title: { text: table.metric, side: "right" }, thickness: 12 } } };
  const side = (box, name) => box[name] || [0, 1];
  const shapes = table.boxes.map(zoom => ({ type: "rect", line: { color: "#D55E00", width: 1.5 },
    label: { text: `zoom ${zoom.zoom}`, textposition: "top left", font: { color: "#D55E00", size: 11 } },
    x0: side(zoom.box, x)[0], x1: side(zoom.box, x)[1], y0: side(zoom.box, y)[0], y1: side(zoom.box, y)[1] }));
  const axis = name => ({ title: { text: table.names[name] }, range: [-0.03, 1.03], automargin: true, ...table.ticks[name] });
  return { data: [points], layout: { xaxis: axis(x), yaxis: axis(y), shapes, height: 520,
    margin: { t: 10, r: 10 }, hovermode: "closest" } };
}

function drawAll() {
  for (const [id, figure] of Object.entries(drawn)) {
    if (!document.getElementById(id)) continue;
    if (!figure.table) { draw(id, figure); continue; }
    const [x, y] = ["x", "y"].map(axis => document.getElementById(`${id}-${axis}`));
    if (x.options.length < 1) continue;
    const again = () => draw(id, pair(figure.table, x.value, y.value));
    x.onchange = y.onchange = again;
    again();
  }
}

drawAll();
dark.addEventListener("change", drawAll);
document.querySelectorAll("details").forEach(d => d.addEventListener("toggle", () => window.dispatchEvent(new Event("resize"))));
document.documentElement.dataset.drawn = "yes";
