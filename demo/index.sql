-- SPDX-License-Identifier: MIT
-- The demo's third patient: fills a table in memory, looks around, then builds an index over it.
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)
INSERT INTO t SELECT i, 'name ' || (i * 7919 % 400000) FROM n;
SELECT 'pairs before the index', count(*) FROM t a, t b WHERE a.id < 20 AND a.name < b.name;
CREATE INDEX by_name ON t(name);
SELECT 'pairs after it', count(*) FROM t a, t b WHERE a.id < 80 AND a.name < b.name;
