import Base

/// One hot path: what is set up once, and what is then done again and again. A case costs what its iterations cost; its
/// set-up falls out, since two numbers of iterations are compared.
struct MicroCase: Sendable {
  let name: String
  let help: String
  /// Of the fewer and of the more iterations; enough that the difference drowns what the loop does besides.
  let iterations: (few: Int, many: Int)
  /// Operations that one iteration is, such as deliveries of an event.
  let operations: Int
  /// Makes ready, then runs that many iterations.
  let run: @Sendable @LoopActor (Int, any Scheduler) async throws -> Void

  static let all: [MicroCase] = [
    .encode, .decode, .meta, .frame, .receive, .fanOut, .append, .apply, .call, .schedule,
  ]
}
