// The text of an episode: who wrote which part of it, and what of it is trained.

const KINDS = {
  prompt: ["Prompt", "the question and its instructions"],
  action: ["Policy", "sampled by the model"],
  documents: ["Documents", "inserted: what the search brought back"],
  feedback: ["Feedback", "inserted: a correction after a malformed turn"],
};
const spanClass = (span) => `${span.kind} ${span.trained ? "trained" : "untrained"}`;
// An evaluation trains nothing; its mask is the one that training would have.
const maskName = (span, whole) => (span.trained ? (whole.evaluated ? "would be trained" : "trained") : "not trained");
const tokenCount = (span) => span.end - span.start;

function legend(whole) {
  const seen = new Map(whole.spans.map((span) => [spanClass(span), span]));
  return element(
    "div",
    { class: "span-legend" },
    [...seen].map(([name, span]) =>
      element(
        "span",
        { title: KINDS[span.kind][1] },
        element("i", { class: `swatch ${name}` }),
        KINDS[span.kind][0],
        element("small", {}, maskName(span, whole)),
      ),
    ),
  );
}

// The whole episode in one line, each span as wide as it has tokens.
function tape(spans, goTo) {
  return element(
    "div",
    { class: "tape" },
    spans.map((span, place) => {
      const size = tokenCount(span) || span.text.length;
      return element("button", {
        type: "button",
        class: spanClass(span),
        style: { "flex-grow": Math.max(size, 1) },
        title: `${KINDS[span.kind][0]}: ${plural(tokenCount(span), "token")}`,
        onclick: () => goTo(place),
      });
    }),
  );
}

// A document block: its passages with their ids and scores, and what was found and not shown.
function documents(span, searches) {
  const [search] = searches;
  const starts = searches.length === 1 ? search.starts : [];
  if (!starts.length) return [element("div", { class: "text" }, span.text), searches.map(sourcesLine)];
  // A retriever may return one passage twice, so scores go by place.
  let from = 0;
  const scores = search.shown_ids.map((id) => {
    const place = search.passage_ids.indexOf(id, from);
    if (place >= 0) from = place + 1;
    return search.scores[place];
  });
  const last = span.text.lastIndexOf("\n<");
  const close = last > starts.at(-1) ? last + 1 : span.text.length;
  const passages = starts.map((start, place) =>
    element(
      "div",
      { class: "passage" },
      element("div", { class: "text" }, span.text.slice(start, starts[place + 1] ?? close).replace(/\n$/, "")),
      element(
        "div",
        { class: "source" },
        element("code", {}, search.shown_ids[place]),
        scores[place] !== undefined && element("b", { title: "score of the retriever" }, figure(scores[place])),
      ),
    ),
  );
  return [
    element("div", { class: "text wrapping" }, span.text.slice(0, starts[0]).trim()),
    passages,
    element("div", { class: "text wrapping" }, span.text.slice(close).trim()),
  ];
}

// Ids and scores of passages that the text does not tell apart.
const sourcesLine = (search) =>
  search.shown_ids.length > 0 &&
  element(
    "div",
    { class: "sources" },
    search.shown_ids.map((id) =>
      element("span", {}, element("code", {}, id), " ", figure(search.scores[search.passage_ids.indexOf(id)])),
    ),
  );

function searchNote(search) {
  const left = search.passage_ids.length - search.shown_ids.length;
  return element(
    "div",
    { class: "search" },
    element("span", { class: "query", title: "query as it was sent" }, search.query),
    element(
      "small",
      {},
      search.tool && `${search.tool} · `,
      search.error
        ? ""
        : `${plural(search.passage_ids.length, "passage")}${left > 0 ? `, ${left} left out for lack of room` : ""} · `,
      seconds(search.seconds),
    ),
    search.error && element("div", { class: "badge bad" }, search.error),
  );
}

function turn(whole, span, body, searches = []) {
  const counts = tokenCount(span) > 0 && plural(tokenCount(span), "token");
  const mean = span.logprobs?.length
    ? span.logprobs.reduce((sum, value) => sum + value, 0) / span.logprobs.length
    : null;
  return element(
    "article",
    { class: `turn ${spanClass(span)}` },
    element(
      "header",
      {},
      element("strong", { title: KINDS[span.kind][1] }, KINDS[span.kind][0]),
      element("small", {}, counts),
      mean !== null && element("small", { title: "mean log-prob of its tokens" }, `log-prob ${mean.toFixed(2)}`),
      element("span", { class: "mask" }, maskName(span, whole)),
    ),
    searches.map(searchNote),
    element("div", { class: "body" }, body),
  );
}

function transcript(whole, tags) {
  let block = 0;
  const turns = whole.spans.map((span) => {
    if (span.kind !== "documents") return turn(whole, span, written(span, tags));
    const searches = whole.searches.filter((search) => search.block === block);
    block += 1;
    return turn(whole, span, documents(span, searches), searches);
  });
  const lost = whole.searches.filter((search) => search.block === null);
  const unanswered = lost.map((search) =>
    element(
      "article",
      { class: "turn lost" },
      element("header", {}, element("strong", {}, "Search without documents")),
      searchNote(search),
    ),
  );
  return { node: element("div", { class: "transcript" }, turns, unanswered), turns };
}
