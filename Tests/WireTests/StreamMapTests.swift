import Base
import Testing
import Wire

@Suite struct StreamMapTests {
  @Test(arguments: [1, 2, 3, 4] as [UInt64]) func itIsADictionaryInOrder(seed: UInt64) {
    let random = SeededRandom(seed: seed)
    var map = StreamMap<[UInt64]>()
    var model: [UInt32: [UInt64]] = [:]
    for _ in 0..<5_000 {
      let id = UInt32(random.below(60))
      let value = random.next()
      switch random.below(5) {
      case 0:
        map[id] = [value]
        model[id] = [value]
      case 1:
        map[id]?.append(value)
        model[id]?.append(value)
      case 2:
        #expect(map.removeValue(forKey: id) == model.removeValue(forKey: id))
      case 3:
        map[id] = nil
        model[id] = nil
      default: #expect(map[id] == model[id])
      }
      #expect(map.count == model.count && map.isEmpty == model.isEmpty)
    }
    #expect(map.keys == model.keys.sorted())
  }

  @Test func changesHappenInPlace() {
    var map = StreamMap<[Int]>()
    map[7] = Array(0..<1_000)
    let before = map[7]?.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
    map[7]?[3] = -1
    let after = map[7]?.withUnsafeBufferPointer { UInt(bitPattern: $0.baseAddress) }
    #expect(before == after, "the value was copied to be changed")
  }
}
