import Base

/// Who wants to hear of publications. One may cancel itself or another while it is being told.
@LoopActor struct Observers {
  private var bodies: [UInt64: @LoopActor ([Entry]) -> Void] = [:]
  private var order: [UInt64] = []
  private var next: UInt64 = 1

  nonisolated init() {}

  mutating func add(_ body: @escaping @LoopActor ([Entry]) -> Void) -> ObservationID {
    defer { next += 1 }
    bodies[next] = body
    order.append(next)
    return ObservationID(raw: next)
  }

  mutating func remove(_ id: ObservationID) {
    bodies[id.raw] = nil
    order.removeAll { $0 == id.raw }
  }

  /// Ids to tell now, in the order in which they came; look each up when its turn comes.
  var ids: [UInt64] { order }
  subscript(id: UInt64) -> (@LoopActor ([Entry]) -> Void)? { bodies[id] }
}
