// The dashboard's charts, by uPlot: drawn in the stylesheet's colours, in its width, in UTC.

const { uPlot } = window;
const HEIGHT = 200;

// Chart → its lines from the lowest up: column, label, colour. Bars are stacked.
const CHARTS = {
  runs: {
    bars: true,
    lines: [
      ["succeeded", "Succeeded", "--hue-done"],
      ["cancelled", "Cancelled", "--hue-stopped"],
      ["failed", "Failed", "--hue-failed"],
    ],
  },
  tokens: {
    bars: true,
    lines: [
      ["input_tokens", "In", "--chart-quiet"],
      ["output_tokens", "Out", "--accent"],
    ],
  },
  wait: {
    bars: false,
    lines: [
      ["p50", "p50", "--accent"],
      ["p95", "p95", "--hue-waiting"],
    ],
  },
};

const drawn = new Map();
let columns = null;

// Draw all charts with these columns, one value for each of the times in `at`.
export function draw(series) {
  columns = series;
  for (const place of document.querySelectorAll("[data-chart]")) {
    const chart = CHARTS[place.dataset.chart];
    const there = drawn.get(place);
    if (there && there.step === step()) there.plot.setData(stacked(chart));
    else make(place, chart);
  }
}

function make(place, chart) {
  drawn.get(place)?.plot.destroy();
  place.hidden = false;
  const plot = new uPlot(options(place, chart), stacked(chart), place);
  drawn.set(place, { plot, step: step() });
  place.setAttribute("role", "img");
  place.setAttribute("aria-label", `${place.dataset.chart} over time; the table below has the numbers`);
}

function step() {
  return columns.at[1] - columns.at[0];
}

// The data of a chart, what is drawn first at the front: of bars the highest, each a sum.
function stacked({ bars, lines }) {
  const values = lines.map(([name]) => columns[name]);
  if (!bars) return [columns.at, ...values];
  const sums = [];
  for (const column of values) {
    const below = sums.at(-1);
    sums.push(column.map((value, index) => value + (below ? below[index] : 0)));
  }
  return [columns.at, ...sums.reverse()];
}

function options(place, { bars, lines }) {
  const ordered = bars ? lines.toReversed() : lines;
  const write = bars ? count : seconds;
  return {
    width: place.clientWidth,
    height: HEIGHT,
    // To the right there is room for half a label of the time.
    padding: [8, 20, 0, 0],
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), "Etc/UTC"),
    cursor: { points: { show: !bars }, drag: { x: false, y: false }, y: false },
    legend: { live: true },
    scales: { x: { range: (plot, low, high) => [low - step() / 2, high + step()] }, y: { range: (plot, low, high) => [0, Math.max(high ?? 0, bars ? 4 : 0.1) * 1.08] } },
    axes: [{ ...axis(), values: times, space: 64 }, { ...axis(), size: 52, values: (plot, ticks) => ticks.map(write) }],
    series: [
      { value: (plot, at) => (at === null ? "" : clock(at)), label: "From" },
      ...ordered.map((line) => one(line, bars, write)),
    ],
  };
}

function one([name, label, colour], bars, write) {
  const hue = resolved(`var(${colour})`);
  const value = (plot, _, series, index) => (index === null ? "" : write(columns[name][index]));
  if (bars) return { label, value, fill: hue, width: 0, points: { show: false }, paths: BARS };
  return { label, value, stroke: hue, width: 2, points: { show: true, size: 5, fill: hue } };
}

const BARS = uPlot.paths.bars({ size: [0.78, 28], align: 1 });

function axis() {
  const line = { stroke: resolved("var(--hairline-color)"), width: 1 };
  const font = "11px system-ui, sans-serif";
  return { stroke: resolved("var(--body-quiet-color)"), font, grid: line, ticks: { show: false } };
}

// A colour of the stylesheet as a canvas takes it.
function resolved(colour) {
  const probe = document.createElement("span");
  probe.style.color = colour;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const SHORT = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });

function count(value) {
  return value === null || value % 1 ? "" : SHORT.format(value);
}

function seconds(value) {
  if (value === null || value === undefined) return "";
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${Number(value.toFixed(1))} s`;
}

// Times on the axis: the time of day, and the day where another one begins or steps are long.
function times(plot, ticks) {
  let day = "";
  const isLong = ticks.length > 1 && ticks[1] - ticks[0] >= 86_400;
  return ticks.map((at) => {
    const [date, time] = new Date(at * 1000).toISOString().slice(5, 16).split("T");
    const isNew = date !== day;
    day = date;
    if (isLong) return date;
    return isNew ? `${time}\n${date}` : time;
  });
}

function clock(at) {
  return new Date(at * 1000).toISOString().slice(0, 16).replace("T", " ");
}

function remake() {
  for (const place of drawn.keys()) make(place, CHARTS[place.dataset.chart]);
}

new ResizeObserver(() => {
  for (const [place, { plot }] of drawn) {
    if (plot.width !== place.clientWidth) plot.setSize({ width: place.clientWidth, height: HEIGHT });
  }
}).observe(document.body);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", remake);
new MutationObserver(remake).observe(document.documentElement, { attributeFilter: ["data-theme"] });
