import Base
import Store

/// Copies a log from outside of its daemon, which may be running.
package enum LogBackup {
  /// Writes one snapshot of the log at `path` to the new file `backup`, checks the copy in full, and answers what is
  /// in it. Sealed values stay sealed; the keys are not in it. While it runs the daemon goes on, but its WAL grows.
  package static func run(from path: String, to backup: String) throws(SkerryError) -> LogCheck.Report {
    let source = try Database.reader(path: path)
    // Inside one read, so that writes meanwhile do not make the copy begin again.
    try source.read { () throws(SkerryError) in
      guard try LogState.load(source) != nil else {
        throw SkerryError(.corrupt, "\(path) has no state row: this is no log")
      }
      let copy = try Backup(of: source, to: backup)
      while try !copy.step(pages: -1) {}
    }
    return try LogCheck.run(path: backup)
  }
}
