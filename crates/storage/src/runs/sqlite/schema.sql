-- A run is a chain: every entry has the digest of its body and of the entry
-- before, and the first that of the run's origin. Nothing is changed once it is
-- written; a run goes as a whole, and leaves a tombstone. The triggers guard
-- against our own mistakes, the digests against everybody else's.

CREATE TABLE store (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    pruning INTEGER NOT NULL CHECK (pruning IN (0, 1)),
    probes  INTEGER NOT NULL,
    placed  INTEGER NOT NULL
) STRICT;
INSERT INTO store VALUES (1, 0, 0, 0);

-- What a run was begun with, as canonical JSON.
CREATE TABLE runs (
    run          INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL,
    namespace_id INTEGER NOT NULL,
    run_id       TEXT NOT NULL,
    origin       BLOB NOT NULL,
    UNIQUE (tenant_id, namespace_id, run_id)
) STRICT;

-- Entries of all runs in the order they came, so that a commit writes the end of
-- one table, however many runs it has entries of. `seq` counts the entries of a
-- run from 1, whatever log they are in. `subject` is the trigger a decision is
-- on, or the id of a submission: neither comes twice in a run. The indexes are
-- for what is looked for by name and for what is rare: an append of neither
-- writes none.
CREATE TABLE entries (
    entry    INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    log      INTEGER NOT NULL CHECK (log BETWEEN 1 AND 6),
    subject  TEXT,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    digest   BLOB NOT NULL CHECK (length(digest) = 32),
    body     BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_by_subject ON entries (run, log, subject) WHERE subject IS NOT NULL;
CREATE UNIQUE INDEX entries_rare ON entries (run, log, seq) WHERE log = 4 OR log = 5;

-- Where the entries of a run are, in order: `place` is the number of the run
-- times 2^36, and `seq`. Filled for a thousand entries at a time; up to which is
-- `placed` in the store. Those that came later are not in it.
CREATE TABLE places (
    place INTEGER PRIMARY KEY,
    log   INTEGER NOT NULL,
    entry INTEGER NOT NULL
) STRICT;

-- Where a run stands after its newest entry, `seq`, whose digest is `last`;
-- `decided` is the `entry` of its newest decision, or 0. Where it stood before comes out of the
-- entries, so only the newest is kept.
CREATE TABLE heads (
    run     INTEGER PRIMARY KEY,
    seq     INTEGER NOT NULL,
    decided INTEGER NOT NULL,
    last    BLOB NOT NULL CHECK (length(last) = 32),
    body    BLOB NOT NULL,
    digest  BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;

-- Runs that were pruned, in a chain of their own.
CREATE TABLE tombstones (
    n            INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL,
    namespace_id INTEGER NOT NULL,
    run_id       TEXT NOT NULL,
    body         BLOB NOT NULL,
    previous     BLOB NOT NULL CHECK (length(previous) = 32),
    digest       BLOB NOT NULL CHECK (length(digest) = 32),
    UNIQUE (tenant_id, namespace_id, run_id)
) STRICT;

CREATE TABLE scenarios (
    n            INTEGER PRIMARY KEY,
    namespace_id INTEGER NOT NULL,
    scenario_id  TEXT NOT NULL,
    spec_hash    BLOB NOT NULL CHECK (length(spec_hash) = 32),
    spec         BLOB NOT NULL,
    retired      INTEGER NOT NULL CHECK (retired IN (0, 1))
) STRICT;
CREATE UNIQUE INDEX scenarios_in_use ON scenarios (namespace_id, scenario_id) WHERE retired = 0;
CREATE INDEX scenarios_by_hash ON scenarios (spec_hash);

-- Data shapes, in a chain of their own. The columns say again what is in the
-- body, to find it by.
CREATE TABLE shapes (
    n            INTEGER PRIMARY KEY,
    tenant_id    INTEGER NOT NULL,
    namespace_id INTEGER NOT NULL,
    schema_id    TEXT NOT NULL,
    version      TEXT NOT NULL,
    body         BLOB NOT NULL,
    previous     BLOB NOT NULL CHECK (length(previous) = 32),
    digest       BLOB NOT NULL CHECK (length(digest) = 32),
    UNIQUE (tenant_id, namespace_id, schema_id, version)
) STRICT;

-- One row for each receipt of a packet that was to be delivered. What it is a
-- delivery of is `about`, and `id` is made of that: neither changes. The rest is
-- where it stands: open (0), delivered (1) or given up (2), when it may be taken
-- next, how often it was, and who has it.
CREATE TABLE outbox (
    delivery INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    receipt  INTEGER NOT NULL CHECK (receipt >= 0),
    id       BLOB NOT NULL UNIQUE CHECK (length(id) = 32),
    about    BLOB NOT NULL,
    state    INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    due      INTEGER NOT NULL CHECK (due >= 0),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    holder   TEXT,
    UNIQUE (run, seq, receipt)
) STRICT;
CREATE INDEX outbox_due ON outbox (due, delivery) WHERE state = 0;

-- What became of attempts, for each run in a chain of its own that begins with
-- the digest of its origin.
CREATE TABLE deliveries (
    n        INTEGER PRIMARY KEY,
    run      INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    body     BLOB NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    digest   BLOB NOT NULL CHECK (length(digest) = 32)
) STRICT;
CREATE INDEX deliveries_by_run ON deliveries (run, n);

CREATE TRIGGER runs_stay BEFORE UPDATE ON runs BEGIN SELECT RAISE(ABORT, 'runs are append-only'); END;
CREATE TRIGGER runs_kept BEFORE DELETE ON runs WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'runs are append-only'); END;
CREATE TRIGGER entries_stay BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER entries_kept BEFORE DELETE ON entries WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'entries are append-only'); END;
CREATE TRIGGER places_stay BEFORE UPDATE ON places BEGIN SELECT RAISE(ABORT, 'places are append-only'); END;
CREATE TRIGGER places_kept BEFORE DELETE ON places WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'places are append-only'); END;
CREATE TRIGGER heads_go_on BEFORE UPDATE ON heads WHEN NEW.seq <= OLD.seq OR NEW.run <> OLD.run
BEGIN SELECT RAISE(FAIL, 'heads only go on'); END;
CREATE TRIGGER heads_kept BEFORE DELETE ON heads WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'heads only go on'); END;
CREATE TRIGGER tombstones_stay BEFORE UPDATE ON tombstones
BEGIN SELECT RAISE(ABORT, 'tombstones are append-only'); END;
CREATE TRIGGER tombstones_kept BEFORE DELETE ON tombstones
BEGIN SELECT RAISE(ABORT, 'tombstones are append-only'); END;
CREATE TRIGGER scenarios_stay BEFORE UPDATE ON scenarios
WHEN OLD.retired = 1 OR NEW.retired = 0 OR OLD.spec <> NEW.spec OR OLD.spec_hash <> NEW.spec_hash
    OR OLD.n <> NEW.n OR OLD.namespace_id <> NEW.namespace_id OR OLD.scenario_id <> NEW.scenario_id
BEGIN SELECT RAISE(ABORT, 'scenarios do not change'); END;
CREATE TRIGGER scenarios_kept BEFORE DELETE ON scenarios
BEGIN SELECT RAISE(ABORT, 'scenarios do not change'); END;
CREATE TRIGGER shapes_stay BEFORE UPDATE ON shapes
BEGIN SELECT RAISE(ABORT, 'data shapes do not change'); END;
CREATE TRIGGER shapes_kept BEFORE DELETE ON shapes
BEGIN SELECT RAISE(ABORT, 'data shapes do not change'); END;
CREATE TRIGGER outbox_stays BEFORE UPDATE ON outbox
WHEN OLD.state <> 0 OR OLD.delivery <> NEW.delivery OR OLD.run <> NEW.run OR OLD.seq <> NEW.seq
    OR OLD.receipt <> NEW.receipt OR OLD.id <> NEW.id OR OLD.about <> NEW.about
BEGIN SELECT RAISE(ABORT, 'deliveries do not change'); END;
CREATE TRIGGER outbox_kept BEFORE DELETE ON outbox WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'deliveries do not change'); END;
CREATE TRIGGER deliveries_stay BEFORE UPDATE ON deliveries
BEGIN SELECT RAISE(ABORT, 'delivery logs are append-only'); END;
CREATE TRIGGER deliveries_kept BEFORE DELETE ON deliveries WHEN (SELECT pruning FROM store) = 0
BEGIN SELECT RAISE(ABORT, 'delivery logs are append-only'); END;
