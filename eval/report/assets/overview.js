// The overview: scores before and after, training curves, what was run.

const heading = (title, note) =>
  element("div", { class: "heading" }, element("h2", {}, title), note && element("p", {}, note));
const emptyState = (title, ...text) =>
  element("div", { class: "empty" }, element("strong", {}, title), element("p", {}, ...text));

function scoreCell(column, line, most) {
  const value = line.scores[column.score];
  if (value === undefined) return element("td", {}, "–");
  const write = column.rate ? percent : (number) => number.toFixed(2);
  const interval = line.intervals[column.score];
  const place = (number) => `${(100 * number) / (column.rate ? 1 : most)}%`;
  const bar =
    interval &&
    element(
      "span",
      { class: "interval" },
      element("i", {
        class: "range",
        style: { left: place(interval[0]), width: `calc(${place(interval[1] - interval[0])} + 2px)` },
      }),
      element("i", { class: "mean", style: { left: place(value) } }),
    );
  const between = interval && element("small", {}, `${write(interval[0])} – ${write(interval[1])}`);
  return element("td", {}, element("b", {}, write(value)), between, bar);
}

function lineName(line) {
  const progress = line.complete
    ? []
    : [
        element(
          "span",
          { class: "badge warn" },
          line.asked ? `in progress, ${line.n} of ${line.asked}` : "in progress",
        ),
      ];
  const errors = line.errors
    ? [element("span", { class: "badge bad" }, `${plural(line.errors, "failed episode", "failed episodes")} left out`)]
    : [];
  return element("th", { scope: "row" }, line.name, element("small", {}, line.decoding), progress, errors);
}

function resultsTable({ columns, lines }) {
  const most = (column) =>
    Math.max(
      ...lines.map((line) => Math.max(line.scores[column.score] ?? 0, line.intervals[column.score]?.[1] ?? 0)),
      1e-9,
    );
  const hops = [...new Set(lines.flatMap((line) => Object.keys(line.by_hops)))].sort((a, b) => a - b);
  const head = element(
    "tr",
    {},
    element("th", {}, ""),
    element("th", {}, "n"),
    columns.map((column) => element("th", {}, column.title, column.rate && element("small", {}, " %"))),
    hops.map((number) => element("th", {}, `F1, ${plural(Number(number), "hop")}`, element("small", {}, " %"))),
  );
  const rows = lines.map((line, place) =>
    element(
      "tr",
      { class: place && lines[place - 1].name !== line.name ? "first" : undefined },
      lineName(line),
      element("td", {}, line.n),
      columns.map((column) => scoreCell(column, line, most(column))),
      hops.map((number) => element("td", {}, line.by_hops[number] ? percent(line.by_hops[number].f1) : "–")),
    ),
  );
  return element(
    "div",
    { class: "scroll" },
    element("table", { class: "results" }, element("thead", {}, head), element("tbody", {}, rows)),
  );
}

// The first and the last model of the first training under the same decoding: what it changed. Without a training, of all.
function changeCards({ lines }) {
  const decoding = lines.some((line) => line.decoding === "greedy") ? "greedy" : lines[0].decoding;
  const all = lines.filter((line) => line.decoding === decoding);
  const trained = all.filter((line) => line.chain === 0);
  const same = trained.length > 1 ? trained : all;
  if (same.length < 2) return null;
  const [before, after] = [same[0], same.at(-1)];
  const cards = [
    ["f1", "F1", true],
    ["em", "exact match", true],
    ["retrieval_rate", "retrieval rate", true],
    ["searches_per_question", "searches per question", false],
  ];
  return element(
    "div",
    { class: "cards" },
    cards.map(([score, title, rate]) => {
      const write = rate ? percent : (number) => number.toFixed(2);
      return element(
        "div",
        { class: "card" },
        element("span", { class: "label" }, title),
        element(
          "span",
          { class: "change" },
          element("span", {}, write(before.scores[score])),
          element("i", {}, "→"),
          element("b", {}, write(after.scores[score])),
          rate && element("small", {}, "%"),
        ),
        element("small", {}, `${before.name} → ${after.name}, ${decoding}`),
      );
    }),
  );
}

function resultsSection({ results }) {
  const note = "Mean over the questions; below it the 95 % interval over questions, which says nothing about seeds.";
  if (!results.lines.length) {
    return [
      heading("Held-out questions"),
      emptyState(
        "No evaluation here",
        "An evaluation written into a folder beside or below the run appears in this place: ",
        element("code", {}, "python -m eval.run … --out RUN/evaluation"),
      ),
    ];
  }
  return [heading("Held-out questions", note), changeCards(results), resultsTable(results)];
}

function smoothingControl(group) {
  const choices = [
    [1, "each step"],
    [5, "mean of 5"],
    [15, "mean of 15"],
  ];
  const buttons = choices.map(([width, label]) =>
    element(
      "button",
      {
        type: "button",
        "aria-pressed": width === group.smoothing,
        onclick: (event) => {
          group.smooth(width);
          for (const button of buttons) button.setAttribute("aria-pressed", button === event.currentTarget);
        },
      },
      label,
    ),
  );
  return element("div", { class: "segmented", role: "group", "aria-label": "Smoothing" }, buttons);
}

function trainingSection(curves) {
  const names = curves.runs.map((run) => run.name).join(" → ");
  const running = curves.runs.some((run) => !run.complete) && element("span", { class: "badge warn" }, "in progress");
  const title = element(
    "div",
    { class: "heading" },
    element("h2", {}, "Training ", running),
    element(
      "p",
      {},
      `${names}: ${plural(curves.steps.length, "step")}.${curves.held_out.length ? " Dots: held-out questions." : ""}`,
    ),
  );
  if (!curves.steps.length)
    return [
      title,
      emptyState(
        "No step has ended yet",
        "Curves appear with the first line of metrics.jsonl. The episodes so far can be looked at already.",
      ),
    ];
  const group = new ChartGroup(curves);
  title.append(smoothingControl(group));
  const panels = (other) =>
    element(
      "div",
      { class: "panels" },
      group.charts.filter((chart) => chart.panel.other === other).map((chart) => chart.node),
    );
  const others = curves.panels.filter((panel) => panel.other).length;
  const more =
    others > 0 &&
    element(
      "details",
      { class: "more" },
      element("summary", {}, `${plural(others, "other metric")} of the trainer`),
      panels(true),
    );
  return [title, panels(false), more];
}

function factsSection({ runs }) {
  const names = [...new Set(runs.flatMap((run) => Object.keys(run.facts)))].filter((name) =>
    runs.some((run) => run.facts[name]),
  );
  const rows = runs.map((run) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, run.name),
      element("td", {}, run.kind),
      element("td", {}, run.complete ? "complete" : "in progress"),
      element("td", {}, run.available.toLocaleString("en")),
      names.map((name) => element("td", {}, run.facts[name] ?? "–")),
    ),
  );
  const head = element(
    "tr",
    {},
    ["", "kind", "state", "episodes", ...names].map((name) => element("th", {}, name)),
  );
  return [
    heading("What was run"),
    element(
      "div",
      { class: "scroll" },
      element("table", { class: "facts" }, element("thead", {}, head), element("tbody", {}, rows)),
    ),
  ];
}

function showOverview({ head }) {
  const trained = head.curves.map(trainingSection);
  document
    .getElementById("overview")
    .replaceChildren(
      ...[resultsSection(head), ...trained, factsSection(head)].map((parts) => element("section", {}, parts)),
    );
}
