"use strict";
// The parts of the page beside timeline and records: the environments, the backends, the ledger and the invocations.

const panels = {
  show() {
    this.about();
    this.destinations();
    this.ledger();
    this.invocations();
  },

  about() {
    const environments = model.rows("environments");
    const last = environments.at(-1);
    if (last === undefined) return;
    const many = environments.length > 1;
    const states = environments
      .filter((one) => one === last || one.state !== "ended")
      .map((one) => (many ? `environment ${one.number} ${one.state}` : one.state));
    setText(byId("about"), `${last.function}, ${last.memory_mb} MB: ${states.slice(-5).join(", ")}`);
    document.title = `${last.function}: ${last.state} · Local Lambda`;
  },

  destinations() {
    const rows = model.rows("destinations");
    byId("destinations-section").hidden = rows.length === 0;
    showRows(byId("destinations"), rows, createDestination, updateDestination);
  },

  ledger() {
    const ledgers = model.rows("ledgers");
    byId("ledger-section").hidden = ledgers.length === 0;
    showRows(byId("ledger"), ledgers.slice(-5), createLedger, () => undefined);
  },

  invocations() {
    showRows(byId("invocations"), model.rows("invocations").reverse(), createInvocation, updateInvocation);
  },
};

function createDestination(row) {
  const select = make("select");
  const name = (fault) => (fault === "" ? "none" : `${fault}: ${row.faults[fault]}`);
  for (const fault of ["", ...Object.keys(row.faults)]) {
    const option = make("option", "", name(fault));
    option.value = fault;
    select.append(option);
  }
  select.addEventListener("change", () => {
    const fault = select.value || null;
    controls.ask("/fault", { destination: row.id, fault }, fault ? `${row.id}: ${fault}.` : `${row.id} is well again.`);
  });
  const label = make("label", "", "Fault ", select);
  return make("div", "card", null, make("h3", "", row.id), make("dl"), label);
}

function updateDestination(card, row) {
  const wanted = model.wantedRecords();
  const isOver = model.rows("environments").every((one) => one.state === "ended");
  const facts = [
    ["arrived", `${row.arrived} of ${wanted}`],
    [isOver ? "missing" : "not there yet", String(Math.max(0, wanted - row.arrived))],
    ["in the spool", row.on_disk === undefined ? "" : String(row.on_disk)],
    ["twice", String(row.repeats)],
    ["made by the extension", row.own ? String(row.own) : ""],
    ["requests", row.open ? `${row.requests}, ${row.open} without an answer yet` : String(row.requests)],
  ];
  const [, list, label] = card.children;
  const shown = facts.filter(([, value]) => value !== "").map(([id, value]) => ({ id, value }));
  showRows(list, shown, (fact) => make("div", "", null, make("dt", "", fact.id), make("dd")), (fact, one) => {
    setText(fact.lastChild, one.value);
  });
  const select = label.lastChild;
  if (document.activeElement !== select) select.value = row.fault ?? "";
  select.disabled = byId("controls").hidden;
  card.classList.toggle("failing", row.fault !== null);
}

function createLedger(row) {
  const names = Object.keys(row.books[0]?.counts ?? {});
  const headings = ["", ...names, ""].map((name) => make("th", name ? "number" : "", name));
  const body = row.books.map((book) => {
    const [kind, words] = book.balances ? ["good", "✓ balances"] : ["problem", "✗ does not balance"];
    const verdict = make("td", kind, words);
    const counts = names.map((name) => make("td", "number", String(book.counts[name])));
    return make("tr", "", null, make("th", "", book.name), ...counts, verdict);
  });
  const head = make("thead", "", null, make("tr", "", null, ...headings));
  const table = make("table", "", null, head, make("tbody", "", null, ...body));
  const scroll = make("div", "scroll", null, table);
  scroll.tabIndex = 0;
  return make("div", "", null, make("p", "", `As the extension told it at ${clockTime(row.time)}. ${row.law}`), scroll);
}

function createInvocation(row) {
  const button = make("button", "link", row.request.slice(0, 8));
  button.title = `Show the records of ${row.request}`;
  button.addEventListener("click", () => records.search(row.request));
  const cells = ["", "number", "number", "number", "number", "number", "answer"].map((name) => make("td", name));
  return make("tr", "", null, make("td", "", null, button), ...cells);
}

function updateInvocation(line, row) {
  const failed = row.function_error || (row.status !== "success" && row.status !== "running");
  const outcome = [row.function_error && row.status === "success" ? "raised" : row.status, row.error_type];
  const missing = row.answer_missing ? `… [${row.answer_missing} characters more]` : "";
  const texts = [
    outcome.filter(Boolean).join(" "),
    ...[row.init_ms, row.duration_ms, row.overhead_ms, row.billed_ms, row.memory_mb].map(milliseconds),
    (row.answer ?? "") + missing,
  ];
  texts.forEach((text, place) => setText(line.children[place + 1], text));
  line.children[1].className = failed ? "problem" : "";
}
