import Base
import CLibUV
import Glibc

/// Signals of the process, delivered on the loop.
@LoopActor package enum Signals {
  /// Calls `action` at each arrival until the watch is cancelled; several may watch one signal.
  @discardableResult
  package static func on(_ number: Int32, _ action: @escaping () -> Void) -> SignalWatch {
    SignalWatch(number, action)
  }
}

/// One watched signal. It keeps itself until `cancel`.
@LoopActor package final class SignalWatch: HandleOwner {
  private let handle: UnsafeMutablePointer<uv_signal_t>
  private var action: (() -> Void)?

  init(_ number: Int32, _ action: @escaping () -> Void) {
    handle = allocated(uv_signal_t())
    self.action = action
    uv_signal_init(Loop.current.uv, handle)
    handle.cast(to: uv_handle_t.self).retain(self)
    let status = uv_signal_start(handle, signalArrived, number)
    precondition(status == 0, "cannot watch signal \(number): \(uvMessage(status))")
  }

  /// Gives the signal back its default effect, unless another watch has it.
  package func cancel() {
    guard action != nil else { return }
    action = nil
    closeHandle(handle, owner: self)
  }

  func handleDidClose() {}
  fileprivate func arrived() { action?() }
}

private func signalArrived(_ handle: UnsafeMutablePointer<uv_signal_t>?, _ number: Int32) {
  let watch: SignalWatch = owner(handle?.pointee.data)
  LoopActor.entered { watch.arrived() }
}
