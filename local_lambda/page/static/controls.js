"use strict";
// The buttons. Each asks the server for one thing, and shows its answer: an empty one, or a sentence that says why not.

const controls = {
  environment: null, // the number of the one that is chosen

  start(event) {
    byId("event").value = JSON.stringify(event ?? {});
    const said = (does, words) => () => this.ask(does, { environment: this.environment }, words);
    byId("freeze").addEventListener("click", said("/freeze", "Frozen."));
    byId("thaw").addEventListener("click", said("/thaw", "Thawed: the processes run until the next freeze."));
    byId("shutdown").addEventListener("click", said("/shutdown", "Shutting down…"));
    byId("invoke").addEventListener("submit", (submitted) => {
      submitted.preventDefault();
      this.ask("/invoke", { event: byId("event").value }, "Invoked.");
    });
    byId("event").addEventListener("keydown", (pressed) => {
      if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) byId("invoke").requestSubmit();
    });
    byId("environment").addEventListener("change", (changed) => {
      this.environment = Number(changed.target.value);
      page.changed();
    });
  },

  hide() {
    byId("controls").hidden = true;
  },

  async ask(path, body, words) {
    const headers = { "Content-Type": "application/json" };
    const asking = fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
    const response = await asking.catch(() => null);
    let problem = null;
    if (response === null) {
      problem = "The local Lambda does not answer: it has ended.";
    } else if (!response.ok) {
      const answer = await response.json().catch(() => ({}));
      problem = answer.error ?? `The local Lambda answered HTTP ${response.status}.`;
    }
    byId("said").textContent = problem ?? words;
    byId("said").classList.toggle("problem", problem !== null);
  },

  show() {
    const alive = model.rows("environments").filter((one) => ["frozen", "running", "reset"].includes(one.state));
    if (!alive.some((one) => one.number === this.environment)) this.environment = alive.at(-1)?.number ?? null;
    const chosen = alive.find((one) => one.number === this.environment);
    byId("freeze").disabled = chosen?.state !== "running";
    byId("thaw").disabled = chosen?.state !== "frozen";
    byId("shutdown").disabled = chosen === undefined;
    byId("which").hidden = alive.length < 2;
    const create = (row) => {
      const option = make("option", "", String(row.number));
      option.value = row.number;
      return option;
    };
    showRows(byId("environment"), alive, create, (option, row) => {
      option.selected = row.number === this.environment;
    });
    showRows(byId("notices"), model.rows("notices").slice(-3), () => make("li"), (item, row) => {
      setText(item, `${clockTime(row.time)} ${row.text}`);
    });
  },
};
