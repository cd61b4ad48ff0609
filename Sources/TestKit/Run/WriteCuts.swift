import Base

/// Power cuts in the middle of a write. One is armed on a disk and falls into one of its next operations, wherever that
/// is: in a commit, a checkpoint, the start of a program. What the disk holds then is kept, lost or torn by `FaultVFS`;
/// the machine goes off with it, in the same step of the world.
@LoopActor package final class WriteCuts {
  private struct Armed {
    let id: UInt64
    let disk: SimDisk
    let cutsBefore: Int
    let fell: @LoopActor () -> Void
  }
  private var armed: [Armed] = []
  private var last: UInt64 = 0

  package init() {}

  /// The power will fail within the next `operations` changes and syncs of the disk; `fell` runs when it has. Answers
  /// how to take that back.
  package func arm(_ disk: SimDisk, within operations: UInt64, fell: @escaping @LoopActor () -> Void)
    -> @LoopActor () -> Void
  {
    last += 1
    let id = last
    // One at a time: the disk keeps one end.
    armed.removeAll { $0.disk === disk }
    armed.append(Armed(id: id, disk: disk, cutsBefore: disk.powerCuts, fell: fell))
    disk.cutPower(within: operations)
    return { [weak self] in
      guard let self, let index = self.armed.firstIndex(where: { $0.id == id }) else { return }
      self.armed.remove(at: index).disk.cancelCut()
    }
  }

  /// After each step of the world: turns off the machines whose disk lost power in it, before anybody acts on what
  /// that disk said last.
  package func look() {
    if armed.isEmpty { return }
    for cut in armed where cut.disk.powerCuts > cut.cutsBefore {
      armed.removeAll { $0.id == cut.id }
      cut.fell()
    }
  }
}
