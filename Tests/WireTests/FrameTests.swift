import Base
import Testing
import Wire

@Suite struct FrameTests {
  static func decode(_ input: Bytes, chunk: Int) throws -> [Frame] {
    var decoder = FrameDecoder()
    var frames: [Frame] = []
    var offset = 0
    while offset < input.count {
      let end = min(offset + chunk, input.count)
      try decoder.decode(Array(input[offset..<end]), into: &frames)
      offset = end
    }
    #expect(decoder.isIdle)
    return frames
  }

  @Test(arguments: [1, 2, 3, 7, 8, 9, 100, 16_384, 1 << 20]) func framesSurviveEveryCut(_ chunk: Int) throws {
    let frames = [
      Frame(.ping, payload: [0]), Frame(.data, flags: .more, stream: 7, payload: Bytes(repeating: 3, count: 16_376)),
      Frame(.end, stream: 7, payload: []), Frame(.data, stream: 0xffff_ffff, payload: Bytes(0...255)),
    ]
    #expect(try Self.decode(frames.flatMap(\.encoded), chunk: chunk) == frames)
  }

  @Test func theHeaderIsAsDrawn() {
    #expect(Frame(.data, flags: .more, stream: 0x0102_0304, payload: [9]).encoded.hex == "00011101" + "01020304" + "09")
  }

  @Test func anOversizedFrameIsRefusedAtItsLength() {
    var decoder = FrameDecoder()
    var frames: [Frame] = []
    let error = #expect(throws: SkerryError.self) {
      try decoder.decode([0x3f, 0xf9, 17, 0, 0, 0, 0, 1], into: &frames)
    }
    #expect(error?.code == .protocolViolation)
    #expect(throws: SkerryError.self) {
      var decoder = FrameDecoder()
      for byte: UInt8 in [0x3f, 0xf9, 17, 0, 0, 0, 0, 1, 0] { try decoder.decode([byte], into: &frames) }
    }
  }
}
