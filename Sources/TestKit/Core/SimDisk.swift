import Base
import FaultVFS

/// The disk that one program of a simulated machine keeps its stores on.
@LoopActor package final class SimDisk {
  private let image: DiskImage
  private var backup: [String: Bytes]?

  package init(random: any RandomSource) { image = DiskImage(random: random) }

  package var vfs: String? { image.vfs }
  package func path(_ name: String) -> String { "/\(name)" }

  /// The program died; what it wrote is all there.
  package func processDied() { image.crash() }

  /// The power failed: what was not synced is kept, lost or torn.
  package func powerCut() { image.powerCut() }

  /// The power will fail within the next so many changes of the disk. `isCut` tells when it has.
  package func cutPower(within operations: UInt64) { image.cutPower(at: image.operations + operations) }
  package func cancelCut() { image.cutPower(at: nil) }
  package var powerCuts: Int { image.powerCuts }

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
