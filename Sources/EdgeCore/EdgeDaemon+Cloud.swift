import Base
import EdgeAgent
import EventLoop
import Identity
import Logging
import ObjectModel
import Transport

/// What the daemon does about a cloud that is not as it was, and about a clock that is not right.
extension EdgeDaemon {
  private static let clockSkew = "ClockSkew"
  private static let cloudRestored = "CloudRestored"

  /// The node's clock: it is not before the times at which the node's certificates were made.
  static func clock(_ configuration: EdgeConfiguration, _ loop: Loop, _ metrics: Metrics) -> NodeClock {
    let paths = [configuration.ca, configuration.certificate]
    let known = paths.compactMap { path -> WallTime? in
      guard let text = Files.readText(path, limit: Certificate.maxBytes) else { return nil }
      return (try? Certificate(pem: text))?.notBefore
    }
    let logger = Daemon.logger("edgecore/\(configuration.node)", level: configuration.logLevel, clock: loop)
    return NodeClock(loop, path: "\(configuration.data)/clock", notBefore: known, metrics: metrics) { error in
      logger.warning(EdgeLog.clock, "the time could not be stored: \(error)")
    }
  }

  func watchTheCloud() {
    if !clock.believesSystem {
      logger.warning(EdgeLog.clock, "the system's clock shows a time that has passed already, and is not believed")
    }
    grace.onChange = { [weak self] in self?.tellUnknown() }
    grace.onOver = { [link] in spawn { await link.replaceSession() } }
    tellUnknown()
    rotation.dialJoin = { [joinDialer] () async throws(SkerryError) in try await joinDialer.connect() }
    link.onRefused = { [rotation, random] error in await rotation.recover(from: error, random: random) }
    // A serving certificate of our own CA cannot have been made in the future: rather our clock is behind.
    for context in [rotation.context, joinDialer.context] {
      context.onNotYetValid = { [clock, rotation, logger] certificate in
        guard rotation.isFromOurAuthority(certificate) else { return }
        clock.atLeast(certificate.notBefore + .seconds(1))
        logger.warning(EdgeLog.clock, "the cloud's certificate is younger than our clock, which is set after it")
      }
    }
  }

  /// A session stands: the cloud has told its time.
  func heard(_ session: Session) {
    guard let time = session.peerTime else { return }
    clock.heard(cloud: time)
    let seconds = Int64((clock.offset ?? .zero).seconds)
    let isSkewed = !clock.believesSystem
    status.set(
      condition: Self.clockSkew, isTrue: isSkewed, reason: isSkewed ? "ClockIsWrong" : "ClockIsRight",
      message: isSkewed
        ? "the node's clock is \(abs(seconds)) s \(seconds > 0 ? "behind" : "ahead of") the cloud's, which is used instead"
        : "the node's clock agrees with the cloud's")
  }

  private func tellUnknown() {
    let kept = grace.condition
    status.set(
      condition: Self.cloudRestored, isTrue: kept != nil,
      reason: kept == nil ? "NothingUnknown" : "KeepingUnknownObjects",
      message: kept?.message ?? "the cloud knows everything that this node has")
    guard let kept else { return }
    reporter.event(
      regarding: Object(["metadata": ["name": .string(configuration.node)]]), apiVersion: "v1", kind: "Node",
      type: "Warning", reason: Self.cloudRestored, message: kept.message)
  }
}
