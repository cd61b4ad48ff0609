import Base

/// Which of a file's un-synced changes reach the medium when the power fails.
///
/// A sector is written whole or not at all, and a write leaves the bytes around it alone (what SQLite calls powersafe
/// overwrite, https://www.sqlite.org/psow.html); nothing else is promised: not the order of two writes, not that the
/// sectors of one write go together, not that a file's length goes with its content.
struct Survival {
  /// What disks write in one go.
  static let sectorSizes = [512, 4096]

  private let random: any RandomSource
  private let sector: Int

  /// Draws the sector size of this power cut.
  init(random: any RandomSource) {
    self.random = random
    sector = Self.sectorSizes[Int(random.below(UInt64(Self.sectorSizes.count)))]
  }

  func choose(from pending: [FileChange], mediumSize: Int) -> [FileChange] {
    if pending.isEmpty { return [] }
    switch random.below(6) {
    case 0: return []
    case 1: return pending
    case 2, 3: return prefix(of: pending)
    default: return subset(of: pending, mediumSize: mediumSize)
    }
  }

  /// The first changes, and a part of the one that was under way.
  private func prefix(of pending: [FileChange]) -> [FileChange] {
    let count = Int(random.below(UInt64(pending.count)))
    return pending[..<count] + sectors(of: pending[count]).filter { _ in random.below(2) == 0 }
  }

  /// Any sectors of any changes, in any order.
  private func subset(of pending: [FileChange], mediumSize: Int) -> [FileChange] {
    let chance = 1 + random.below(7)
    var end = mediumSize
    var rest: [FileChange] = []
    for change in pending {
      for piece in sectors(of: change) {
        if random.below(8) < chance {
          rest.append(piece)
        } else if case .write(let bytes, let offset) = piece, offset + bytes.count > end, random.below(4) == 0 {
          // The file became longer, and what it holds there did not arrive.
          rest.append(.resize(to: offset + bytes.count))
        }
        if case .write(let bytes, let offset) = piece { end = max(end, offset + bytes.count) }
      }
    }
    for index in rest.indices.dropFirst().reversed() {
      rest.swapAt(index, Int(random.below(UInt64(index + 1))))
    }
    return rest
  }

  /// A write as the sectors that it touches.
  private func sectors(of change: FileChange) -> [FileChange] {
    guard case .write(let bytes, let offset) = change else { return [change] }
    var pieces: [FileChange] = []
    var start = 0
    while start < bytes.count {
      let length = min(sector - (offset + start) % sector, bytes.count - start)
      pieces.append(.write(Bytes(bytes[start..<start + length]), at: offset + start))
      start += length
    }
    return pieces
  }
}
