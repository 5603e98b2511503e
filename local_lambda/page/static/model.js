"use strict";
// What the page knows: the rows that the server sent, by table and id, oldest first.

const model = {
  tables: {},
  limits: {},
  totals: {},
  clockAhead: 0, // the server's clock less ours, in seconds

  // Take a message of the server; `first` names the oldest row of each table that it still keeps.
  take(message) {
    this.limits = message.limits;
    this.totals = message.totals;
    this.clockAhead = message.now - Date.now() / 1000;
    for (const [name, rows] of Object.entries(message.rows)) {
      const table = (this.tables[name] ??= new Map());
      for (const row of rows) table.set(row.id, row);
      for (const id of table.keys()) {
        if (id === message.first[name]) break;
        table.delete(id);
      }
    }
  },

  forget() {
    this.tables = {};
  },

  rows(name) {
    return [...(this.tables[name]?.values() ?? [])];
  },

  row(name, id) {
    return this.tables[name]?.get(id);
  },

  now() {
    return Date.now() / 1000 + this.clockAhead;
  },

  // Whether a subscriber of its environment is sent a record. What an extension made itself is of no environment.
  isWanted(record) {
    const environment = this.row("environments", record.environment);
    return environment?.subscribed?.includes(record.type.split(".")[0]) ?? false;
  },

  // Whether nothing more can come of a record: its environment has ended.
  isOver(record) {
    return this.row("environments", record.environment)?.state === "ended";
  },

  // How many records the subscribers are to be sent so far.
  wantedRecords() {
    let count = 0;
    for (const environment of this.rows("environments")) {
      for (const stream of environment.subscribed ?? []) count += environment.emitted?.[stream] ?? 0;
    }
    return count;
  },

  // Whether a record that should be at every destination is missing at one.
  isMissing(record) {
    return this.isWanted(record) && this.rows("destinations").some((one) => !(one.id in record.arrived));
  },
};

// The text of a record as a log shows it.
function textOf(record) {
  if (record.line) return record.line;
  return typeof record.record === "string" ? record.record.replace(/\n$/, "") : JSON.stringify(record.record);
}
