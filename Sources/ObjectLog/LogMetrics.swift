import Base

/// What a log counts. Names begin with `skerry_log_`; one daemon has one leader or one replica, so no labels.
struct LogMetrics: Sendable {
  let commits: Counter
  let changes: Counter
  let refused: Counter
  let entries: Counter
  let commitMicroseconds: Counter
  let failures: Counter
  let waiting: Gauge
  let retained: Gauge
  let position: Gauge
  let compacted: Gauge

  init(_ metrics: Metrics) {
    commits = metrics.counter("skerry_log_commits_total", "Transactions that the log's writer has committed.")
    changes = metrics.counter("skerry_log_changes_total", "Changes that were answered, refused ones included.")
    refused = metrics.counter("skerry_log_refused_total", "Changes refused: guard, limit, stopped writer.")
    entries = metrics.counter("skerry_log_entries_total", "Entries that were published.")
    commitMicroseconds = metrics.counter(
      "skerry_log_commit_microseconds_total", "Time spent in transactions, the wait for the disk included.")
    failures = metrics.counter("skerry_log_failures_total", "Times that the writer stopped after a failure.")
    waiting = metrics.gauge("skerry_log_waiting_changes", "Changes that wait for the writer.")
    retained = metrics.gauge("skerry_log_history_bytes", "Bytes of replaced and deleted values on disk.")
    position = metrics.gauge("skerry_log_position", "The newest published position.")
    compacted = metrics.gauge("skerry_log_compacted_position", "Positions up to here can no longer be followed.")
  }
}
