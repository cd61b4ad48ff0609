import Base

/// A planted defect, to show that the simulator can fail: it lives in wrappers around the seams, which only a simulated
/// run has, and never in the product.
package struct Defect: Sendable {
  package let name: String
  /// The promise that has to find it.
  package let breaks: Promise
  package let story: String
  package let seams: @LoopActor @Sendable (SimWorld) -> Seams

  package static let all: [Defect] = diskDefects + logDefects + laneDefects + otherDefects

  package static func named(_ name: String) -> Defect? { all.first { $0.name == name } }
}

extension Defect {
  static let diskDefects = [
    Defect(
      name: "ack-before-sync", breaks: .durable, story: "the cloud's disk answers syncs and does not do them",
      seams: { LyingDisks($0, cloud: true, files: true, directories: false) }),
    Defect(
      name: "synchronous-off", breaks: .durable, story: "the edges' stores commit without waiting for their disks",
      seams: { LyingDisks($0, cloud: false, files: true, directories: false) }),
    Defect(
      name: "no-directory-sync", breaks: .durable, story: "new files are not made durable in their directories",
      seams: { LyingDisks($0, cloud: true, files: false, directories: true) }),
    Defect(
      name: "outbox-in-memory", breaks: .effectExactlyOnce, story: "what waits on an edge does not survive its process",
      seams: { ForgetfulOutbox($0) }),
    Defect(
      name: "epoch-ignored", breaks: .revisionsNeverLower, story: "a restored backup goes on in the old epoch",
      seams: { OldEpoch($0) }),
  ]
}

/// Disks that lie about syncs.
@LoopActor private final class LyingDisks: Seams {
  private let cloud: Bool
  private let files: Bool
  private let directories: Bool
  init(_ world: SimWorld, cloud: Bool, files: Bool, directories: Bool) {
    self.cloud = cloud
    self.files = files
    self.directories = directories
    super.init(world)
  }
  override func prepare(cloud disk: SimDisk) { if cloud { disk.lie(files: files, directories: directories) } }
  override func prepare(_ node: SimNode) {
    guard !cloud || directories else { return }
    node.disk.lie(files: files, directories: directories)
    node.deviceDisk.lie(files: files, directories: directories)
  }
}

@LoopActor private final class ForgetfulOutbox: Seams {
  override func died(_ node: SimNode) { node.disk.remove(["/outbox.db", "/outbox.db-wal"]) }
}

@LoopActor private final class OldEpoch: Seams {
  override var beginsEpochs: Bool { false }
}
