import Base
import CSQLite
import Glibc
import Synchronization

/// The environment variable by which a test makes a daemon lose power. For tests only; see docs/operations.md.
package enum PowerCutSwitch {
  package static let variable = "SKERRY_TEST_VFS"

  /// What the variable asks for: `powercut,seed=S,after=N`, or with `,syncs=ignored` at the end.
  package struct Request: Sendable, Hashable {
    package var seed: UInt64 = 0
    /// The write or sync in which the power fails, counted from 1 over all SQLite files of the process.
    package var after: UInt64 = 0
    /// A disk that lies: shows that a test would notice a loss.
    package var ignoresSyncs = false

    package init(_ text: String) throws(SkerryError) {
      var words = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
      let form = "powercut,seed=S,after=N with numbers S and N > 0, and perhaps ,syncs=ignored"
      guard words.removeFirst() == "powercut" else { throw Self.failure(text, form) }
      if words.last == "syncs=ignored" {
        ignoresSyncs = true
        words.removeLast()
      }
      var values: [String: UInt64] = [:]
      for word in words {
        let parts = word.split(separator: "=", maxSplits: 1).map(String.init)
        guard parts.count == 2, let value = UInt64(parts[1]), values.updateValue(value, forKey: parts[0]) == nil else {
          throw Self.failure(text, form)
        }
      }
      guard Set(values.keys) == ["seed", "after"], let seed = values["seed"], let after = values["after"], after > 0
      else { throw Self.failure(text, form) }
      (self.seed, self.after) = (seed, after)
    }

    private static func failure(_ text: String, _ form: String) -> SkerryError {
      SkerryError(.invalidArgument, "\(variable) is \"\(text)\": it must be \(form)")
    }
  }

  /// Held for the life of the process.
  private static let installed = Mutex<VFSRegistration?>(nil)

  /// Honours the variable, if it is set, before the first database is opened. A release build refuses it.
  package static func honour() throws(SkerryError) {
    guard let value = getenv(variable) else { return }
    let request = try Request(String(cString: value))
    #if DEBUG
      try install(request)
    #else
      throw SkerryError(
        .invalidArgument,
        "\(variable) is set (power cut after \(request.after) operations), and this is a release build, which does not "
          + "lose data on request: unset it, or use a debug build")
    #endif
  }

  /// Makes the system's files lose power for every SQLite connection of the process that names no VFS.
  package static func install(_ request: Request) throws(SkerryError) {
    guard let base = sqlite3_vfs_find("unix") else {
      throw SkerryError(.system, "SQLite has no VFS named unix, over which power could be cut")
    }
    let disk = PowerCutDisk(
      base: base, random: SeededRandom(seed: request.seed), cutAt: request.after, ignoresSyncs: request.ignoresSyncs)
    let registration = VFSRegistration(name: "skerry-powercut", disk: disk, over: base, isDefault: true)
    installed.withLock { $0 = registration }
  }
}
