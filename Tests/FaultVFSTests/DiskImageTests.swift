import Base
import FaultVFS
import Testing

private func disk(_ seed: UInt64) -> DiskImage { DiskImage(random: SeededRandom(seed: seed)) }

private func text(_ disk: DiskImage, _ path: String) -> String? {
  disk.read(path).map { String(decoding: $0, as: UTF8.self) }
}

@Suite struct DiskImageTests {
  @Test func whatWasSyncedSurvives() throws {
    for seed in 1...200 as ClosedRange<UInt64> {
      let disk = disk(seed)
      try disk.write("/d/a", Bytes("synced".utf8))
      try disk.sync("/d/a")
      try disk.syncDirectory(of: "/d/a")
      disk.powerCut()
      #expect(text(disk, "/d/a") == "synced")
      #expect(disk.powerCuts == 1)
    }
  }

  /// Three sectors: all of them, none, or any part.
  @Test func whatWasNotSyncedIsKeptLostOrTorn() throws {
    var (kept, lost, torn, longer) = (0, 0, 0, 0)
    for seed in 1...400 as ClosedRange<UInt64> {
      let disk = disk(seed)
      try disk.write("/a", Bytes(repeating: 1, count: 512))
      try disk.sync("/a")
      try disk.syncDirectory(of: "/a")
      try disk.write("/a", Bytes(repeating: 2, count: 3 * 512))
      disk.powerCut()
      let after = try #require(disk.read("/a"))
      for sector in stride(from: 0, to: after.count, by: 512) {
        #expect(Set(after[sector..<min(sector + 512, after.count)]).count == 1, "a sector was torn")
      }
      switch after {
      case Bytes(repeating: 1, count: 512): lost += 1
      case Bytes(repeating: 2, count: 3 * 512): kept += 1
      default:
        torn += 1
        if after.count == 3 * 512, after.contains(0) { longer += 1 }
      }
    }
    #expect(kept > 20 && lost > 20 && torn > 20 && longer > 0, "\(kept) kept, \(lost) lost, \(torn) torn, \(longer)")
  }

  @Test func aNewNameNeedsItsDirectorySynced() throws {
    var found = 0
    for seed in 1...100 as ClosedRange<UInt64> {
      let disk = disk(seed)
      try disk.write("/a", [1])
      try disk.sync("/a")
      disk.powerCut()
      if let bytes = disk.read("/a") {
        found += 1
        #expect(bytes == [1])
      }
    }
    #expect(found > 20 && found < 80, "\(found) of 100 names survived")
  }

  /// The way of `Files.writeDurably`, cut in each of its operations: the old or the new content is there, whole.
  @Test func aDurableReplacementIsOneOrTheOther() throws {
    var seen: Set<String> = []
    for seed in 1...300 as ClosedRange<UInt64> {
      let disk = disk(seed)
      let (old, new) = (String(repeating: "o", count: 5000), String(repeating: "n", count: 9000))
      try disk.writeDurably("/a", Bytes(old.utf8))
      disk.cutPower(at: disk.operations + 1 + seed % 6)
      try? disk.writeDurably("/a", Bytes(new.utf8))
      if disk.powerCuts == 0 { disk.powerCut() }
      let after = try #require(text(disk, "/a"))
      #expect(after == old || after == new)
      seen.insert(after)
    }
    #expect(seen.count == 2)
  }

  /// What the model must find: the same without the sync of the file.
  @Test func aReplacementWithoutASyncIsTorn() throws {
    var broken = 0
    for seed in 1...100 as ClosedRange<UInt64> {
      let disk = disk(seed)
      try disk.writeDurably("/a", Bytes("old".utf8))
      try disk.write("/a.new", Bytes("new".utf8))
      try disk.rename("/a.new", to: "/a")
      try disk.syncDirectory(of: "/a")
      disk.powerCut()
      if text(disk, "/a") != "new" { broken += 1 }
    }
    #expect(broken > 10)
  }

  @Test func liesAboutSyncsLoseWhatWasSynced() throws {
    var (files, names) = (0, 0)
    for seed in 1...100 as ClosedRange<UInt64> {
      let disk = disk(seed)
      try disk.writeDurably("/a", [1])
      disk.faults.ignoresSyncs = true
      try disk.writeDurably("/a", [2])
      disk.powerCut()
      if disk.read("/a") != [2] { files += 1 }
      disk.faults.ignoresSyncs = false
      disk.faults.ignoresDirectorySyncs = true
      try disk.writeDurably("/b", [3])
      disk.powerCut()
      if disk.read("/b") != [3] { names += 1 }
    }
    #expect(files > 10 && names > 10)
  }

  @Test func aCrashLosesNothing() throws {
    let disk = disk(1)
    try disk.write("/a", [1, 2, 3])
    disk.crash()
    #expect(disk.read("/a") == [1, 2, 3])
    try disk.write("/a", [4])
    #expect(disk.read("/a") == [4])
  }

  @Test func theSameSeedLosesTheSame() throws {
    func run(_ seed: UInt64) throws -> [String: Bytes] {
      let (disk, random) = (disk(seed), SeededRandom(seed: 77))
      for _ in 0..<20 {
        for _ in 0..<10 {
          let path = "/f\(random.below(5))"
          switch random.below(5) {
          case 0: try? disk.sync(path)
          case 1: try disk.syncDirectory(of: path)
          case 2: try? disk.rename(path, to: "/f\(random.below(5))")
          default: try disk.write(path, random.bytes(Int(random.below(20_000))))
          }
        }
        disk.powerCut()
      }
      return disk.image
    }
    #expect(try run(5) == run(5))
    #expect(try run(5) != run(6))
  }

  @Test func imagesAndCapacity() throws {
    let disk = disk(3)
    try disk.write("/a", Bytes(repeating: 1, count: 1000))
    let image = disk.image
    disk.faults.capacity = 1500
    #expect(throws: SkerryError.self) { try disk.write("/b", Bytes(repeating: 1, count: 501)) }
    try disk.write("/b", Bytes(repeating: 1, count: 500))
    #expect(disk.usedBytes == 1500)
    disk.restore(image)
    disk.powerCut()
    #expect(disk.paths == ["/a"])
    #expect(disk.read("/a")?.count == 1000)
    #expect(throws: SkerryError.self) { try disk.remove("/b") }
    try disk.remove("/a")
    #expect(disk.usedBytes == 0)
  }
}
