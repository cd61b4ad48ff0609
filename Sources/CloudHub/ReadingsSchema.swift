import Store

extension ReadingsStore {
  nonisolated static let schema = Schema(
    name: "readings", applicationID: 0x534b_5244,
    migrations: [
      """
      CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
      CREATE TABLE readings (
        number INTEGER PRIMARY KEY AUTOINCREMENT, device INTEGER NOT NULL, property INTEGER NOT NULL,
        type TEXT NOT NULL, value TEXT NOT NULL, quality TEXT NOT NULL, time INTEGER NOT NULL);
      CREATE INDEX by_device ON readings (device, number);
      CREATE TABLE cursors (
        node TEXT NOT NULL, incarnation BLOB NOT NULL, number INTEGER NOT NULL, PRIMARY KEY (node, incarnation)
      ) WITHOUT ROWID;
      CREATE TABLE dropped (number INTEGER PRIMARY KEY AUTOINCREMENT, node TEXT NOT NULL, entry BLOB NOT NULL);
      """,
      // `closed` is null while the incarnation lives, then a number that rises. A gap lies behind reading `place`.
      """
      ALTER TABLE cursors ADD COLUMN closed INTEGER;
      DROP TABLE dropped;
      CREATE TABLE gaps (
        id INTEGER PRIMARY KEY AUTOINCREMENT, place INTEGER NOT NULL, node TEXT NOT NULL, incarnation BLOB NOT NULL,
        first INTEGER NOT NULL, last INTEGER NOT NULL, count INTEGER NOT NULL);
      CREATE INDEX gaps_by_place ON gaps (place);
      CREATE TABLE total (count INTEGER NOT NULL);
      INSERT INTO total SELECT count(*) FROM readings;
      """,
      // Readings lie packed, in blocks as they came: rows `first` and following, of the series that `series` names by
      // their ids (`StoredSeries`). `readings` keeps what came before, with lower numbers, until it is trimmed.
      """
      CREATE TABLE series (
        id INTEGER PRIMARY KEY, device INTEGER NOT NULL, property INTEGER NOT NULL, type TEXT NOT NULL,
        UNIQUE (device, property, type));
      CREATE TABLE blocks (
        first INTEGER PRIMARY KEY, count INTEGER NOT NULL, series BLOB NOT NULL, data BLOB NOT NULL);
      CREATE TABLE blocks_by_device (
        device INTEGER NOT NULL, first INTEGER NOT NULL, PRIMARY KEY (device, first)
      ) WITHOUT ROWID;
      ALTER TABLE total ADD COLUMN last INTEGER NOT NULL DEFAULT 0;
      UPDATE total SET last = (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'readings');
      """,
    ])
}
