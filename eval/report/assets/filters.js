// Which episodes the list shows, and in which order.

const SWITCHES = [
  [
    "wrong",
    "Wrong answer",
    (episodes, id) => episodes.verdict(id) === "wrong",
    "F1 of the answer is 0, or there is none",
  ],
  ["no-search", "No search", (episodes, id) => episodes.get(id, "searches") === 0, "no documents came back"],
  ["forged", "Forged tags", (episodes, id) => episodes.get(id, "forged"), "the policy wrote a tag of a document block"],
  [
    "error",
    "Retriever error",
    (episodes, id) => episodes.get(id, "stop") === "retriever_error",
    "the search service failed past its retries",
  ],
  [
    "format",
    "Broken format",
    (episodes, id) => episodes.get(id, "broken").length > 0,
    "at least one format rule was not kept",
  ],
];
const ORDERS = {
  "as played": null,
  "reward, lowest first": (episodes, a, b) => (episodes.get(a, "reward") ?? 0) - (episodes.get(b, "reward") ?? 0),
  "reward, highest first": (episodes, a, b) => (episodes.get(b, "reward") ?? 0) - (episodes.get(a, "reward") ?? 0),
  "most searches": (episodes, a, b) => episodes.get(b, "searches") - episodes.get(a, "searches"),
  longest: (episodes, a, b) => episodes.get(b, "written") - episodes.get(a, "written"),
};
const TYPING_PAUSE = 50; // milliseconds

class Filters {
  constructor(report, changed) {
    Object.assign(this, { report, episodes: report.episodes, changed });
    this.on = new Set();
    this.text = "";
    this.choices = { run: "", stop: "", rule: "", decoding: "", hops: "", order: "as played" };
    this.steps = { from: null, to: null };
    this.node = element("div", { class: "filters" }, this.searchField(), this.switches(), this.menus());
  }

  searchField() {
    let pause = 0;
    const typed = (event) => {
      const { value } = event.currentTarget;
      clearTimeout(pause);
      pause = setTimeout(() => this.set(() => (this.text = value.trim().toLowerCase())), TYPING_PAUSE);
    };
    return element("input", {
      type: "search",
      id: "search",
      placeholder: "Search questions, queries, documents, answers",
      "aria-label": "Search",
      spellcheck: "false",
      oninput: typed,
    });
  }

  switches() {
    const counts = SWITCHES.map(([, , test]) => {
      let count = 0;
      for (let id = 0; id < this.episodes.count; id++) count += test(this.episodes, id);
      return count;
    });
    return element(
      "div",
      { class: "switches" },
      SWITCHES.map(([name, label, , why], place) =>
        element(
          "button",
          {
            type: "button",
            "data-switch": name,
            title: why,
            "aria-pressed": "false",
            disabled: !counts[place],
            onclick: (event) => {
              const wasOn = this.on.delete(name);
              if (!wasOn) this.on.add(name);
              event.currentTarget.setAttribute("aria-pressed", !wasOn);
              this.set();
            },
          },
          label,
          element("small", {}, counts[place].toLocaleString("en")),
        ),
      ),
    );
  }

  menus() {
    const { columns } = this.episodes;
    const distinct = (values) => [...new Set(values)].filter((value) => value !== null && value !== "").sort();
    const hops = distinct(this.episodes.rows.map((row) => row.hops)).map(String);
    const menus = [
      this.menu(
        "run",
        "all runs",
        this.report.head.runs.map((run, place) => [place, run.name]),
      ),
      this.menu(
        "decoding",
        "any decoding",
        distinct(columns.decoding ?? []).map((name) => [name, name]),
      ),
      this.menu(
        "stop",
        "any end",
        distinct(columns.stop ?? []).map((name) => [name, name.replaceAll("_", " ")]),
      ),
      this.menu(
        "rule",
        "any rule",
        distinct((columns.broken ?? []).flat()).map((name) => [name, `breaks ${name.replaceAll("_", " ")}`]),
      ),
      this.menu(
        "hops",
        "any hops",
        hops.map((number) => [number, plural(Number(number), "hop")]),
      ),
    ];
    const order = this.menu(
      "order",
      null,
      Object.keys(ORDERS).map((name) => [name, name]),
    );
    return element("div", { class: "menus" }, menus, this.stepFields(), order);
  }

  menu(name, nothing, options) {
    if (nothing !== null && options.length < 2) return null;
    const all = nothing === null ? options : [["", nothing], ...options];
    const chosen = (event) => this.set(() => (this.choices[name] = event.currentTarget.value));
    return element(
      "select",
      { "data-menu": name, "aria-label": nothing ?? name, onchange: chosen },
      all.map(([value, label]) => element("option", { value }, label)),
    );
  }

  stepFields() {
    const steps = (this.episodes.columns.step ?? []).filter((step) => step !== null);
    if (!steps.length) return null;
    const last = steps.reduce((most, step) => Math.max(most, step), 0);
    const field = (name) =>
      element("input", {
        type: "number",
        min: 1,
        max: last,
        placeholder: name === "from" ? 1 : last,
        "data-step": name,
        "aria-label": `step ${name}`,
        oninput: (event) => {
          const value = event.currentTarget.valueAsNumber;
          this.set(() => (this.steps[name] = Number.isNaN(value) ? null : value));
        },
      });
    return element("span", { class: "steps" }, "step", field("from"), "–", field("to"));
  }

  set(change = () => {}) {
    change();
    this.changed();
  }

  // Ids of the episodes that pass, in order.
  apply() {
    const { episodes, choices, steps, text } = this;
    const { columns } = episodes;
    const tests = SWITCHES.filter(([name]) => this.on.has(name)).map(
      ([, , test]) =>
        (id) =>
          test(episodes, id),
    );
    if (choices.run !== "") tests.push((id) => columns.run[id] === Number(choices.run));
    if (choices.decoding) tests.push((id) => columns.decoding[id] === choices.decoding);
    if (choices.stop) tests.push((id) => columns.stop[id] === choices.stop);
    if (choices.rule) tests.push((id) => columns.broken[id].includes(choices.rule));
    if (choices.hops) tests.push((id) => String(episodes.row(id).hops) === choices.hops);
    if (steps.from !== null) tests.push((id) => columns.step[id] !== null && columns.step[id] >= steps.from);
    if (steps.to !== null) tests.push((id) => columns.step[id] !== null && columns.step[id] <= steps.to);
    if (text) tests.push(episodes.containing(text));
    const found = [];
    for (let id = 0; id < episodes.count; id++) if (tests.every((test) => test(id))) found.push(id);
    const order = ORDERS[choices.order];
    return order ? found.sort((a, b) => order(episodes, a, b) || a - b) : found;
  }
}
