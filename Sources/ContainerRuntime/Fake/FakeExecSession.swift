import Base

/// The session of a `FakeRuntime` command: its output is there at once, and its input comes back if it echoes.
@LoopActor final class FakeExecSession: ExecSession {
  private var pending: [(stream: Int, bytes: Bytes)]
  private let behavior: FakeRuntime.ExecBehavior
  private var inputOpen: Bool
  private var killed = false
  private var readers: [CheckedContinuation<Void, Never>] = []
  private(set) var size: (width: Int, height: Int)?

  init(_ behavior: FakeRuntime.ExecBehavior, _ request: ExecRequest) {
    self.behavior = behavior
    pending = behavior.output.map { ($0.stream, Bytes("\($0.text)\n".utf8)) }
    inputOpen = request.stdin && behavior.echoes
  }

  func receive() async throws(SkerryError) -> (stream: Int, bytes: Bytes)? {
    while pending.isEmpty && inputOpen { await changed() }
    return pending.isEmpty ? nil : pending.removeFirst()
  }

  func write(_ bytes: Bytes) async throws(SkerryError) {
    guard inputOpen else { return }
    pending.append((1, bytes))
    wake()
  }

  func closeInput() {
    inputOpen = false
    wake()
  }

  func resize(width: Int, height: Int) { size = (width, height) }

  func exitCode() async throws(SkerryError) -> Int32 {
    while inputOpen { await changed() }
    return killed ? 137 : behavior.exitCode
  }

  func kill() {
    killed = inputOpen
    inputOpen = false
    wake()
  }

  private func changed() async { await withCheckedContinuation { readers.append($0) } }

  private func wake() {
    let waiting = readers
    readers = []
    for reader in waiting { reader.resume() }
  }
}
