// The data of the page: the head and the list of episodes at once, the episodes themselves chunk by chunk.

const CHUNKS_KEPT = 16;

function bytes(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

async function unpack(node) {
  const stream = new Blob([bytes(node.textContent.trim())]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Each line of all texts once, in lower case: the samples of a question share most of what was found for them.
class Lines {
  constructor() {
    this.lines = [];
    this.numbers = new Map();
  }

  // Numbers of the lines of a text.
  add(text) {
    return text
      .toLowerCase()
      .split("\n")
      .map((line) => {
        if (!this.numbers.has(line)) this.numbers.set(line, this.lines.push(line) - 1);
        return this.numbers.get(line);
      });
  }

  // For each line, by its number: does it hold what is wanted?
  holding(wanted) {
    return this.lines.map((line) => line.includes(wanted));
  }
}

class Episodes {
  constructor(index, chunkNodes) {
    this.rows = index.rows;
    this.columns = index.episodes;
    this.chunkNodes = chunkNodes;
    this.count = this.columns.chunk?.length ?? 0;
    this.chunks = new Map();
    this.textsRead = 0;
    this.firstOfChunk = [];
    for (let id = this.count - 1; id >= 0; id--) this.firstOfChunk[this.columns.chunk[id]] = id;
    this.lines = new Lines();
    const asked = this.rows.map((row) => this.lines.add([row.question, row.id, ...row.answers].join("\n")));
    this.linesOf = Array.from({ length: this.count }, (_, id) => asked[this.columns.row[id]]);
  }

  row(id) {
    return this.rows[this.columns.row[id]];
  }

  get(id, column) {
    return this.columns[column][id];
  }

  // "right", "partly", "wrong", or "failed" where the search service failed.
  verdict(id) {
    if (this.get(id, "stop") === "retriever_error") return "failed";
    if (this.get(id, "em") === 1) return "right";
    return this.get(id, "f1") > 0 ? "partly" : "wrong";
  }

  // Everything of one episode; its chunk is unpacked when the first of it is asked for.
  async whole(id) {
    const chunk = this.columns.chunk[id];
    return (await this.chunk(chunk))[id - this.firstOfChunk[chunk]];
  }

  async chunk(number) {
    const found = this.chunks.get(number) ?? unpack(this.chunkNodes[number]);
    this.chunks.delete(number);
    this.chunks.set(number, found); // the newest is last, so the first is the one to forget
    if (this.chunks.size > CHUNKS_KEPT) this.chunks.delete(this.chunks.keys().next().value);
    return found;
  }

  get hasAllTexts() {
    return this.textsRead === this.count;
  }

  // Reads all texts for the search, without standing in the way of anything else.
  async readTexts(progress) {
    for (let number = 0; number < this.chunkNodes.length; number++) {
      const episodes = await unpack(this.chunkNodes[number]);
      episodes.forEach((episode, place) => {
        const id = this.firstOfChunk[number] + place;
        const written = episode.spans.filter((span) => span.kind !== "prompt");
        this.linesOf[id] = [...this.linesOf[id], ...written.flatMap((span) => this.lines.add(span.text))];
      });
      this.textsRead += episodes.length;
      progress();
      await new Promise((resume) => setTimeout(resume));
    }
  }

  // A test of an episode: is the text, in lower case and of one line, in what was asked or written?
  containing(wanted) {
    const found = this.lines.holding(wanted);
    return (id) => this.linesOf[id].some((line) => found[line]);
  }

  // The other episodes about the same question.
  siblings(id) {
    const row = this.columns.row[id];
    const found = [];
    for (let other = 0; other < this.count; other++) {
      if (other !== id && this.columns.row[other] === row) found.push(other);
    }
    return found;
  }
}

async function readReport() {
  const [head, index] = await Promise.all(["head-data", "index-data"].map((id) => unpack(document.getElementById(id))));
  return { head, episodes: new Episodes(index, document.querySelectorAll("script.chunk")) };
}

// "stage2 · greedy" or "stage1_run · step 4"
function placeOf(report, id) {
  const { episodes, head } = report;
  const step = episodes.get(id, "step");
  const parts = [head.runs[episodes.get(id, "run")].name, episodes.get(id, "decoding")];
  return [...parts, step === null ? "" : `step ${step}`].filter(Boolean).join(" · ");
}
