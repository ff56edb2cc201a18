// Line and area charts over the training steps. All charts of a page share the step that the pointer is on.

const CHART = { height: 190, left: 42, right: 12, top: 22, bottom: 24 };

class Chart {
  constructor(curves, panel, group) {
    Object.assign(this, { curves, panel, group });
    this.series = panel.metrics.map((metric, place) => ({
      metric,
      color: colorOf(metric, place),
      values: curves.values[metric],
    }));
    this.canvas = drawing("svg", { class: "chart", height: CHART.height, role: "img", "aria-label": panel.title });
    this.legend = element("div", { class: "legend" });
    const note = element("span", { class: "note" }, panel.note);
    this.node = element(
      "figure",
      { class: "panel" },
      element("figcaption", {}, panel.title, note),
      this.legend,
      this.canvas,
    );
    this.canvas.addEventListener("pointermove", (event) => this.group.point(this.stepAt(event), event));
    this.canvas.addEventListener("pointerleave", () => this.group.point(null));
    new ResizeObserver(() => this.draw()).observe(this.node);
    this.say(null);
  }

  get steps() {
    return this.curves.steps.length;
  }

  // Overall steps count from 1; 0 is before the first.
  x(step) {
    return CHART.left + ((this.width - CHART.left - CHART.right) * step) / Math.max(this.steps, 1);
  }

  y(value) {
    const [low, high] = this.range;
    return CHART.height - CHART.bottom - ((CHART.height - CHART.top - CHART.bottom) * (value - low)) / (high - low);
  }

  stepAt(event) {
    const across =
      (event.clientX - this.canvas.getBoundingClientRect().left - CHART.left) / (this.width - CHART.left - CHART.right);
    return Math.min(this.steps, Math.max(1, Math.round(across * this.steps)));
  }

  findRange() {
    if (this.panel.rate) return [0, 1];
    const seen = this.series.flatMap((series) => series.values).filter((value) => value !== null);
    let [low, high] = seen.reduce(
      ([least, most], value) => [Math.min(least, value), Math.max(most, value)],
      [Infinity, -Infinity],
    );
    if (low > 0 && low < 0.6 * high) low = 0;
    if (low === high) [low, high] = low === 0 ? [0, 1] : [low - Math.abs(low) / 2, high + Math.abs(high) / 2];
    const margin = 0.06 * (high - low);
    return [low === 0 ? 0 : low - margin, high + margin];
  }

  draw() {
    this.width = this.node.clientWidth - 2 * parseFloat(getComputedStyle(this.node).paddingLeft);
    if (this.width <= 0) return;
    this.range = this.findRange();
    this.canvas.setAttribute("width", this.width);
    const cursor = drawing("line", {
      class: "cursor",
      y1: CHART.top,
      y2: CHART.height - CHART.bottom,
      visibility: "hidden",
    });
    this.cursor = cursor;
    this.canvas.replaceChildren(
      ...this.grid(),
      ...(this.panel.stacked ? this.areas() : this.lines()),
      ...this.dots(),
      cursor,
    );
  }

  grid() {
    const parts = niceTicks(...this.range).flatMap((tick) => [
      drawing("line", {
        class: "grid",
        x1: CHART.left,
        x2: this.width - CHART.right,
        y1: this.y(tick),
        y2: this.y(tick),
      }),
      drawing(
        "text",
        { class: "tick", x: CHART.left - 6, y: this.y(tick) + 3.5, "text-anchor": "end" },
        figure(Number(tick.toPrecision(6))),
      ),
    ]);
    for (const tick of niceTicks(0, Math.max(this.steps, 1), Math.max(2, this.width / 110)).filter(Number.isInteger)) {
      parts.push(
        drawing("text", { class: "tick", x: this.x(tick), y: CHART.height - 7, "text-anchor": "middle" }, figure(tick)),
      );
    }
    const { borders, runs } = this.curves;
    runs.forEach((run, place) => {
      const [start, end] = [this.x(borders[place]), this.x(borders[place + 1])];
      if (place)
        parts.push(
          drawing("line", {
            class: "border",
            x1: start,
            x2: start,
            y1: CHART.top - 8,
            y2: CHART.height - CHART.bottom,
          }),
        );
      if (runs.length > 1)
        parts.push(
          drawing(
            "text",
            { class: "run", x: (start + end) / 2, y: 11, "text-anchor": "middle" },
            run.name.replace(/_run$/, ""),
          ),
        );
    });
    return parts;
  }

  // Runs are drawn apart: what one logs is often not what the next one does.
  perRun(values) {
    const { borders } = this.curves;
    return borders
      .slice(1)
      .map((end, place) => ({ first: borders[place] + 1, values: values.slice(borders[place], end) }));
  }

  lines() {
    return this.series.flatMap(({ values, color }) =>
      this.perRun(values).flatMap(({ first, values: own }) => {
        const smooth = this.group.smoothing > 1 ? movingMean(own, this.group.smoothing) : own;
        const points = (list) =>
          list.map((value, place) => [this.x(first + place), value === null ? null : this.y(value)]);
        const bold = drawing("path", { d: path(points(smooth)), class: "line", style: { stroke: color } });
        const thin = drawing("path", { d: path(points(own)), class: "line raw", style: { stroke: color } });
        const few = own.length > 12 ? [] : points(own).filter(([, y]) => y !== null);
        const marks = few.map(([x, y]) => drawing("circle", { cx: x, cy: y, r: 2.2, style: { fill: color } }));
        return [...(smooth === own ? [] : [thin]), bold, ...marks];
      }),
    );
  }

  areas() {
    let floor = new Array(this.steps).fill(0);
    return this.series.map(({ values, color }) => {
      const base = floor;
      floor = base.map((below, place) => below + (values[place] ?? 0));
      const edge = (list) => list.map((value, place) => `${this.x(place + 1).toFixed(1)} ${this.y(value).toFixed(1)}`);
      const outline = [...edge(floor), ...edge(base).reverse()];
      return drawing("path", { class: "area", d: `M${outline.join("L")}Z`, style: { fill: color } });
    });
  }

  // Held-out scores of the same quantity, decoded as training samples where there are such.
  dots() {
    const { held_out: held } = this.curves;
    const decodings = new Set(held.map((each) => each.decoding));
    const decoding = decodings.has("sampled") ? "sampled" : [...decodings][0];
    return this.series.flatMap(({ metric, color }) =>
      held
        .filter((each) => each.decoding === decoding && metric in each.values)
        .map((each) => {
          const name = `held-out questions, ${decoding}: ${labelOf(metric)} ${figure(each.values[metric])}`;
          const place = {
            cx: this.x(each.step),
            cy: this.y(each.values[metric]),
            r: 4.5,
            class: "held-out",
            style: { fill: color },
          };
          return drawing("circle", place, drawing("title", {}, name));
        }),
    );
  }

  say(step) {
    const at = step === null ? this.steps - 1 : step - 1;
    this.legend.replaceChildren(
      ...this.series.map(({ metric, color, values }) =>
        element(
          "span",
          { class: "key", title: metric },
          element("i", { style: { background: color } }),
          labelOf(metric),
          element("b", {}, figure(values[at])),
        ),
      ),
    );
  }

  point(step) {
    if (!this.cursor) return;
    this.cursor.setAttribute("visibility", step === null ? "hidden" : "visible");
    if (step !== null) for (const end of ["x1", "x2"]) this.cursor.setAttribute(end, this.x(step));
    this.say(step);
  }
}

// The charts of one training.
class ChartGroup {
  constructor(curves) {
    this.curves = curves;
    this.smoothing = curves.steps.length > 20 ? 5 : 1;
    this.charts = curves.panels.map((panel) => new Chart(curves, panel, this));
  }

  smooth(width) {
    this.smoothing = width;
    for (const chart of this.charts) chart.draw();
  }

  point(step, event) {
    for (const chart of this.charts) chart.point(step);
    if (step === null) return tooltip.hide();
    const [run, own] = this.curves.steps[step - 1];
    tooltip.show(event, `${this.curves.runs[run].name} · step ${own}`);
  }
}
