import Base
import EventLoop
import Glibc

/// Every path and name that a runtime makes on the machine, derived from its data directory: so several clusters
/// share a machine, and whatever is found later belongs to somebody.
package struct RuntimeLayout: Sendable, Hashable {
  /// The data directory, without links.
  package let root: String
  /// Short, and the same for the same directory.
  package let hash: String

  /// Without root's rights `/run` is closed, and the volatile files lie in the machine's shared memory.
  package init(root: String, privileged: Bool = true) {
    let resolved = Files.resolved(root)
    self.root = resolved
    // FNV-1a, 64 bits: a name, not a defence. 40 bits of it keep the bridge's name within the kernel's 15 bytes.
    var value: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in resolved.utf8 { value = (value ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
    seed = value
    var bytes: Bytes = []
    bytes.append(bigEndian: value)
    hash = Bytes(bytes.prefix(5)).hex
    volatile = privileged ? "/run/skerry-\(hash)" : "/dev/shm/skerry-\(hash)-\(getuid())"
  }

  /// For choices that should differ between data directories.
  let seed: UInt64

  var images: String { "\(root)/images" }
  var sandboxes: String { "\(root)/sandboxes" }
  var containers: String { "\(root)/containers" }
  /// conmon writes a file a container here when it has ended; watched, and kept on disk for the next start.
  var exits: String { "\(root)/exits" }
  var addresses: String { "\(root)/ipam" }
  var networkFile: String { "\(root)/network.json" }

  /// What must not reach a disk, or does not outlive the machine's run: bundles (their environment may hold
  /// secrets), namespaces, runc's state. A tmpfs of its own.
  package let volatile: String
  var namespaces: String { "\(volatile)/ns" }
  var bundles: String { "\(volatile)/bundles" }
  var runcRoot: String { "\(volatile)/runc" }
  var shm: String { "\(volatile)/shm" }

  package var networkName: String { "skerry-\(hash)" }
  package var bridge: String { "sk\(hash)" }
  /// Below the mount of each cgroup controller.
  package var cgroupParent: String { "/skerry-\(hash)" }
  /// In the environment of every tool that we run, so that a start after a crash finds those that still run.
  var helperMark: (name: String, value: String) { ("SKERRY_HELPER", hash) }
  /// In the environment of every conmon, which must outlive us.
  var monitorMark: (name: String, value: String) { ("SKERRY_MONITOR", hash) }

  func sandboxRecord(_ id: String) -> String { "\(sandboxes)/\(id)/record.json" }
  func containerRecord(_ id: String) -> String { "\(containers)/\(id)/record.json" }
  func pidFile(_ id: String) -> String { "\(containers)/\(id)/pid" }
  func monitorPidFile(_ id: String) -> String { "\(containers)/\(id)/monitor" }
  func exitFile(_ id: String) -> String { "\(exits)/\(id)" }
  func bundle(_ id: String) -> String { "\(bundles)/\(id)" }
  func cgroup(sandbox: String, container: String) -> String { "\(cgroupParent)/\(sandbox)/\(container)" }

  /// Ids become file names, cgroup names and arguments.
  static let maxIDLength = 128
  static func check(id: String) throws(SkerryError) {
    let allowed = id.utf8.allSatisfy { byte in
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
      case UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."): true
      default: false
      }
    }
    guard allowed, !id.isEmpty, id.utf8.count <= maxIDLength, !id.hasPrefix("."), !id.hasPrefix("-") else {
      throw SkerryError(
        .invalidArgument,
        "\"\(id)\" cannot be an id of a sandbox or container: use letters, digits, '-', '_' and '.', at most \(maxIDLength)"
      )
    }
  }
}
