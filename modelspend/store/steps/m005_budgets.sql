ALTER TABLE intents ADD COLUMN holds TEXT;

ALTER TABLE intent_attempts ADD COLUMN hold_pico INTEGER NOT NULL DEFAULT 0;

ALTER TABLE intent_attempts ADD COLUMN holds TEXT;

CREATE TABLE budgets (
  id INTEGER PRIMARY KEY,
  key TEXT NOT NULL UNIQUE,
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  window_name TEXT NOT NULL,
  opened_at INTEGER
);

CREATE TABLE budget_sums (
  budget INTEGER NOT NULL REFERENCES budgets (id),
  start INTEGER NOT NULL,
  spent_pico INTEGER NOT NULL,
  held_pico INTEGER NOT NULL,
  PRIMARY KEY (budget, start)
) WITHOUT ROWID;

CREATE TABLE budget_overrides (
  scope TEXT NOT NULL,
  name TEXT NOT NULL,
  window_text TEXT NOT NULL,
  zone TEXT NOT NULL,
  cap_pico INTEGER,
  hard INTEGER NOT NULL,
  set_at INTEGER NOT NULL,
  PRIMARY KEY (scope, name, window_text, zone)
) WITHOUT ROWID;

CREATE TABLE budget_firings (
  budget TEXT NOT NULL,
  start INTEGER NOT NULL,
  rule TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (budget, start, rule)
) WITHOUT ROWID;

CREATE TABLE stops (
  name TEXT PRIMARY KEY,
  reason TEXT NOT NULL,
  set_at INTEGER NOT NULL
) WITHOUT ROWID
