import Base
import Testing

@Suite struct WorkingSetTests {
  private final class Thing {
    var words: (Int, Int, Int, Int, Int, Int, Int, Int, Int, Int) = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
  }

  @Test func aPieceIsEveryLineThatItTouches() throws {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 1_024, alignment: 64)
    defer { memory.deallocate() }
    func lines(_ offset: Int, _ bytes: Int) -> Int {
      var set = WorkingSet()
      set.add(memory + offset, bytes: bytes)
      set.fetch()
      return set.lines
    }
    #expect(lines(0, 1) == 1)
    #expect(lines(0, 64) == 1)
    #expect(lines(63, 2) == 2)
    #expect(lines(48, 160) == 4)
    #expect(lines(0, 0) == 0)
  }

  @Test func anObjectIsNotedByItsMemory() {
    let thing = Thing()
    var (whole, beginning) = (WorkingSet(), WorkingSet())
    whole.add(thing)
    beginning.add(thing, bytes: 16)
    #expect((2...3).contains(whole.lines), "a header and ten words: \(whole.lines) lines")
    #expect(beginning.lines == 1)
    #expect(thing.words.9 == 9)
  }

  @Test func whatIsTooMuchIsLeftOut() {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 8_192, alignment: 64)
    var set = WorkingSet()
    #expect(set.isEmpty)
    set.add(nil, bytes: 64)
    #expect(set.isEmpty)
    set.add(memory, bytes: 8_192)
    #expect(set.lines == WorkingSet.maxLines)
    // Out of reach of the first piece: no such piece is noted.
    set.add(UnsafeRawPointer(bitPattern: UInt(bitPattern: memory) &+ 1 << 40), bytes: 64)
    #expect(set.lines == WorkingSet.maxLines)
    for piece in 1..<WorkingSet.maxPieces { set.add(memory + 64 * piece, bytes: 64) }
    let full = set.lines
    #expect(full == WorkingSet.maxLines + WorkingSet.maxPieces - 1)
    set.add(memory, bytes: 64)
    #expect(set.lines == full)
    // What is no memory any more is asked for in vain.
    memory.deallocate()
    set.fetch()
    // Before the first piece as well as behind it.
    var backwards = WorkingSet()
    withUnsafeTemporaryAllocation(byteCount: 1_024, alignment: 64) { buffer in
      guard let base = buffer.baseAddress else { return }
      backwards.add(base + 960, bytes: 64)
      backwards.add(base, bytes: 128)
      backwards.fetch()
    }
    #expect(backwards.lines == 3)
  }
}
