import Base
import FaultVFS
import ObjectLog
import Store

/// The disk that one program of a simulated machine keeps its stores on.
@LoopActor package final class SimDisk {
  private let image: DiskImage
  private var backup: [String: Bytes]?
  /// How much longer each piece of work takes, nanoseconds. Confined to the simulation's one thread.
  package nonisolated(unsafe) var stall: UInt64 = 0

  package init(random: any RandomSource) { image = DiskImage(random: random) }

  package var vfs: String? { image.vfs }
  package func path(_ name: String) -> String { "/\(name)" }

  /// The program died; what it wrote is all there.
  package func processDied() { image.crash() }

  /// The power failed: what was not synced is kept, lost or torn.
  package func powerCut() { image.powerCut() }

  /// The power will fail within the next so many changes and syncs of the disk. `powerCuts` tells when it has.
  package func cutPower(within operations: UInt64) { image.cutPower(at: image.operations + operations) }
  package func cancelCut() { image.cutPower(at: nil) }
  package var powerCuts: Int { image.powerCuts }
  package var usedBytes: Int { image.usedBytes }

  /// The full check of every database as it is now, on a copy, so that the check repairs nothing: the structure of
  /// every page, and of a log every checksum and its index. Answers how many there were; throws what is wrong.
  package func check() throws(SkerryError) -> UInt64 {
    let copy = DiskImage(random: SeededRandom(seed: 0))
    copy.restore(image.image)
    var count: UInt64 = 0
    for path in copy.paths where path.hasSuffix(".db") {
      let database = try Database.reader(path: path, vfs: copy.vfs)
      // A first start that did not come to its first commit.
      if try database.int("SELECT count(*) FROM sqlite_schema") == 0 { continue }
      try database.checkStructure(full: true)
      count += 1
      guard Self.logs.contains(path), try database.int("SELECT count(*) FROM state") > 0 else { continue }
      _ = try LogCheck.run(path: path, vfs: copy.vfs)
    }
    return count
  }
  private static let logs: Set<String> = ["/objects.db", "/replica.db"]

  package func setFull(_ full: Bool) { image.faults.capacity = full ? image.usedBytes + 8192 : nil }

  /// For planted defects: the system lies about what is on the disk.
  package func lie(files: Bool, directories: Bool) {
    image.faults.ignoresSyncs = files
    image.faults.ignoresDirectorySyncs = directories
  }

  package func takeBackup() { backup = image.image }
  package var hasBackup: Bool { backup != nil }
  package func restoreBackup() { if let backup { image.restore(backup) } }
  /// Takes files away, whatever was synced.
  package func remove(_ paths: Set<String>) { image.restore(image.image.filter { !paths.contains($0.key) }) }
  package func wipe() { image.restore([:]) }
}
