import Base
import Sync

/// The decoders of packed readings and packed items. What is accepted keeps to the bounds and says the same when it is
/// packed again.
func attack(_ input: Bytes) {
  if let rows = try? ReadingBlock.decode(input) {
    precondition(rows.count <= ReadingBlock.maxRows, "a block above its bound")
    precondition((try? ReadingBlock.count(input)) == rows.count, "the count is another one")
    if let series = try? ReadingBlock.series(input) {
      precondition(Set(rows.map(\.series)).isSubset(of: series), "a row of a series that is not named")
    }
    let again = try? ReadingBlock.decode(ReadingBlock.encode(rows))
    precondition(again == rows, "rows do not survive")
  }
  if let item = try? Packing.unpack(input) {
    precondition(item.count <= max(Packing.largest, input.count), "an item above its bound")
    // An item that itself looks packed is none that is ever packed.
    if item.first != 0 { precondition((try? Packing.unpack(Packing.pack(item))) == item, "an item does not survive") }
  }
}
