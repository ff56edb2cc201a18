// The microscope: one episode, or two about the same question side by side.

const STOPS = {
  answered: "answered and ended its turn",
  no_answer: "ended its turn with neither an answer nor a query",
  invalid_action: "wrote a query that the protocol does not accept",
  search_limit: "asked for one search more than it may have",
  length: "ran out of tokens",
  retriever_error: "the search service failed past its retries; not trained on",
};

function rewardBox(report, id, whole) {
  const run = report.head.runs[report.episodes.get(id, "run")];
  const { total, parts = {}, rules = {} } = whole.reward;
  if (total === undefined)
    return element("div", { class: "box" }, element("h3", {}, "Reward"), element("p", {}, "none was logged"));
  const lines = Object.entries(parts).map(([name, value]) =>
    element(
      "div",
      { class: "part" },
      element("span", {}, name),
      element("small", {}, name in run.weights ? `weight ${figure(run.weights[name])}` : ""),
      element("b", { class: value < 0 ? "minus" : "" }, value.toFixed(2)),
    ),
  );
  const checks = Object.entries(rules).map(([name, kept]) =>
    element(
      "li",
      { class: kept ? "kept" : "broken", title: report.head.rules[name] || undefined },
      element("i", {}, kept ? "✓" : "✗"),
      element("span", {}, name.replaceAll("_", " ")),
      !kept && element("small", {}, report.head.rules[name]),
    ),
  );
  const broken = Object.values(rules).filter((kept) => !kept).length;
  return element(
    "div",
    { class: "box reward-box", title: run.reward_citation || undefined },
    element("h3", {}, "Reward", element("b", { class: total < 0 ? "minus" : "" }, total.toFixed(2))),
    lines,
    checks.length > 0 &&
      element(
        "details",
        { open: broken > 0 },
        element(
          "summary",
          {},
          broken
            ? `${broken} of ${plural(checks.length, "format rule")} broken`
            : `all ${checks.length} format rules kept`,
        ),
        element("ul", { class: "rules" }, checks),
      ),
  );
}

function factsBox(report, id, whole) {
  const { episodes } = report;
  const row = episodes.row(id);
  const tokens = (kind) =>
    whole.spans.filter((span) => span.kind === kind).reduce((sum, span) => sum + tokenCount(span), 0);
  const stop = episodes.get(id, "stop");
  const facts = [
    ["Ended", element("span", { title: STOPS[stop] }, stop.replaceAll("_", " "))],
    ["F1 · EM", `${figure(episodes.get(id, "f1"))} · ${figure(episodes.get(id, "em"))}`],
    ["Searches", `${episodes.get(id, "searches")}`],
    ["Tokens", `${tokens("prompt")} prompt, ${tokens("action")} written, ${tokens("documents")} documents`],
    [
      "Time",
      [
        `${seconds(whole.seconds)}`,
        `engine ${seconds(whole.engine_seconds)}`,
        whole.searches.length > 0 &&
          `search ${seconds(whole.searches.reduce((sum, search) => sum + search.seconds, 0))}`,
      ]
        .filter(Boolean)
        .join(", "),
    ],
    ["Question", [row.id, row.source, row.hops && plural(row.hops, "hop")].filter(Boolean).join(" · ")],
  ];
  return element(
    "div",
    { class: "box" },
    element("h3", {}, "Episode"),
    element(
      "dl",
      {},
      facts.map(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
    ),
  );
}

async function column(report, id) {
  const { episodes } = report;
  const whole = await episodes.whole(id);
  const verdict = episodes.verdict(id);
  const { node, turns } = transcript(whole, report.head.runs[episodes.get(id, "run")].tags);
  const answer = episodes.get(id, "answer");
  return element(
    "div",
    { class: "column", "data-episode": id },
    element(
      "div",
      { class: "given" },
      element("span", { class: "place" }, placeOf(report, id)),
      element(
        "div",
        { class: `final ${verdict}` },
        element("i", { class: `dot ${verdict}` }),
        answer ?? element("em", {}, "no answer"),
        element(
          "small",
          {},
          { right: "right", partly: "partly right", wrong: "wrong", failed: "search failed" }[verdict],
        ),
      ),
    ),
    element("div", { class: "boxes" }, rewardBox(report, id, whole), factsBox(report, id, whole)),
    legend(whole),
    tape(whole.spans, (place) => turns[place].scrollIntoView({ behavior: "smooth", block: "center" })),
    node,
  );
}

function textRanges(node, wanted) {
  const walker = document.createTreeWalker(node, NodeFilter.SHOW_TEXT);
  const nodes = [];
  for (let length = 0; walker.nextNode(); length += walker.currentNode.data.length)
    nodes.push([length, walker.currentNode]);
  const at = (position) => {
    const [start, found] = nodes.findLast(([first]) => first <= position);
    return [found, position - start];
  };
  const text = node.textContent.toLowerCase();
  const ranges = [];
  for (let place = text.indexOf(wanted); place >= 0; place = text.indexOf(wanted, place + wanted.length)) {
    const range = document.createRange();
    range.setStart(...at(place));
    range.setEnd(...at(place + wanted.length));
    ranges.push(range);
  }
  return ranges;
}

class Microscope {
  constructor(report) {
    this.report = report;
    this.node = element("div", { class: "microscope" });
    this.modes = new Set();
    this.wanted = null;
    this.found = "";
  }

  async show(id, other) {
    this.wanted = `${id}/${other}`;
    const wanted = this.wanted;
    const columns = await Promise.all(
      [id, other].filter((each) => each !== null).map((each) => column(this.report, each)),
    );
    if (this.wanted !== wanted) return; // another one was asked for meanwhile
    const row = this.report.episodes.row(id);
    const golds = element(
      "p",
      { class: "golds" },
      element("span", {}, row.answers.length > 1 ? "Right answers" : "Right answer"),
      row.answers.map((answer) => element("b", {}, answer)),
    );
    this.node.replaceChildren(
      element("div", { class: "title" }, element("h2", {}, row.question), golds, this.tools(id, other, columns)),
      element("div", { class: `columns ${other === null ? "one" : "two"}` }, columns),
    );
    this.node.scrollTop = 0;
    this.highlight();
  }

  // Marks what was searched for, also where it runs over several tokens.
  highlight(text = this.found) {
    this.found = text;
    if (!CSS.highlights) return;
    const ranges = [...this.node.querySelectorAll(".transcript .text, .query")].flatMap((node) =>
      text ? textRanges(node, text) : [],
    );
    CSS.highlights.set("found", new Highlight(...ranges));
  }

  nothing() {
    this.wanted = null;
    this.node.replaceChildren(
      emptyState(
        "Choose an episode",
        "Its turns, searches and reward appear here. Keys: ↑ ↓ move in the list, / searches.",
      ),
    );
  }

  tools(id, other, columns) {
    const has = (selector) => columns.some((each) => each.querySelector(selector));
    const toggle = (mode, label, why) =>
      element(
        "button",
        {
          type: "button",
          "data-mode": mode,
          "aria-pressed": this.modes.has(mode),
          title: why,
          onclick: (event) => {
            if (!this.modes.delete(mode)) this.modes.add(mode);
            event.currentTarget.setAttribute("aria-pressed", this.modes.has(mode));
            this.node.dataset.modes = [...this.modes].join(" ");
          },
        },
        label,
      );
    return element(
      "div",
      { class: "tools" },
      this.compareMenu(id, other),
      has(".token") && toggle("boundaries", "Token boundaries", "of what the policy wrote"),
      has(".bars") &&
        toggle("heat", "Colour by log-prob", "the redder, the less likely the token was when it was sampled"),
    );
  }

  compareMenu(id, other) {
    const { episodes } = this.report;
    const siblings = episodes.siblings(id);
    const label = (each) => [placeOf(this.report, each), episodes.verdict(each), figure(episodes.get(each, "reward"))];
    const choices = siblings.map((each) => [each, label(each).join(" · ")]);
    const nothing = siblings.length
      ? `Compare with one of ${plural(siblings.length, "other episode")}…`
      : "No other episode of this question";
    const chosen = (event) =>
      (location.hash = `#/episodes/${id}${event.currentTarget.value && `/${event.currentTarget.value}`}`);
    return element(
      "select",
      { id: "compare", disabled: !siblings.length, "aria-label": "Compare", onchange: chosen },
      element("option", { value: "" }, other === null ? nothing : "Close the comparison"),
      choices.map(([value, label]) => element("option", { value, selected: value === other }, label)),
    );
  }
}
