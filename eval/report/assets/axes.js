// What the charts share: names, colours, and the arithmetic of axes and lines.

const STOP_COLORS = {
  "stop/answered": "var(--good)",
  "stop/no_answer": "var(--c7)",
  "stop/invalid_action": "var(--c4)",
  "stop/search_limit": "var(--c2)",
  "stop/length": "var(--c3)",
  "stop/retriever_error": "var(--bad)",
};
const LABELS = { "retrieval/rate": "retrieval", "format/rate": "format", "retrieval/seconds": "seconds per search" };

const colorOf = (metric, place) => STOP_COLORS[metric] ?? `var(--c${place % 8})`;
const labelOf = (metric) =>
  LABELS[metric] ??
  metric.replace(/^(answer|retrieval|tokens|rule|stop|reward|timing|guard)\//, "").replaceAll("_", " ");

// Mean of each value and its neighbours, fewer of them at the ends; null where there is none.
function movingMean(values, width) {
  const reach = (width - 1) / 2;
  return values.map((_, at) => {
    const known = values.slice(Math.max(0, at - reach), at + reach + 1).filter((value) => value !== null);
    return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
  });
}

// Round numbers from low to high: where the grid lines stand.
function niceTicks(low, high, wanted = 4) {
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / step - 1e-9); tick * step <= high + step * 1e-6; tick++) ticks.push(tick * step);
  return ticks;
}

function path(points) {
  let pen = "";
  let drawing = false;
  for (const [x, y] of points) {
    if (y !== null) pen += `${drawing ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
    drawing = y !== null;
  }
  return pen;
}
