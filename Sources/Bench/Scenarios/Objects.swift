import API
import Base
import EventLoop
import ObjectModel

/// Objects that scenarios make, and questions that they ask.
@LoopActor enum Objects {
  /// Objects a batch.
  static let batch = 100

  /// A pod that is placed on a node, or that the scheduler places.
  static func pod(_ name: String, node: String? = nil, configMap: String? = nil) -> Value {
    var container: Value = ["name": "main", "image": "hollow"]
    var spec: Value = [:]
    if let node { spec["nodeName"] = .string(node) }
    if let configMap {
      spec["volumes"] = [["name": "config", "configMap": ["name": .string(configMap)]]]
      container["volumeMounts"] = [["name": "config", "mountPath": "/config"]]
    }
    spec["containers"] = [container]
    return ["metadata": ["name": .string(name), "namespace": .string(BenchServer.namespace)], "spec": spec]
  }

  static func configMap(_ name: String, bytes: Int) -> Value {
    [
      "metadata": ["name": .string(name), "namespace": .string(BenchServer.namespace)],
      "data": ["payload": .string(String(repeating: "x", count: bytes))],
    ]
  }

  /// Makes objects, several batches at a time; throws at the first that is refused.
  static func create(_ api: any API, resource: String, namespace: String = BenchServer.namespace, _ objects: [Value])
    async throws(SkerryError)
  {
    var next = 0
    let starts = Array(stride(from: 0, to: objects.count, by: batch))
    var failure: String?
    let tasks = (0..<min(4, starts.count)).map { _ in
      spawn {
        while next < starts.count, failure == nil {
          let start = starts[next]
          next += 1
          let items = objects[start..<min(start + batch, objects.count)].map {
            BatchItem.create(resource: resource, namespace: namespace, object: $0)
          }
          do throws(APIError) {
            for result in try await api.batch(items, caller: .bench) {
              if case .failure(let error) = result, error.reason != .alreadyExists { failure = error.message }
            }
          } catch {
            failure = error.message
          }
        }
      }
    }
    for task in tasks { await task.value }
    if let failure { throw SkerryError(.unavailable, "\(resource) cannot be made: \(failure)") }
  }

  /// How many objects of a resource there are, by a field selector; the server's names alone are looked at.
  static func count(_ api: any API, _ resource: String, fields: String = "", labels: String = "")
    async throws(SkerryError) -> Int
  {
    var (total, continuation) = (0, "")
    repeat {
      do throws(APIError) {
        let page = try await api.list(
          ListOptions(
            resource: resource, labelSelector: labels, fieldSelector: fields, limit: 500, continuation: continuation),
          caller: .bench)
        total += page.items.count
        continuation = page.continuation
      } catch {
        throw SkerryError(.unavailable, "\(resource) cannot be listed: \(error)")
      }
    } while !continuation.isEmpty
    return total
  }

  /// Asks until it is so, or until the deadline; answers whether it is.
  static func wait(
    _ context: BenchContext, _ patience: Duration, each: Duration = .milliseconds(200),
    _ question: () async throws -> Bool
  ) async throws -> Bool {
    let deadline = context.scheduler.now + patience
    while true {
      if try await question() { return true }
      guard context.scheduler.now < deadline else { return false }
      try await context.scheduler.sleep(for: each)
    }
  }
}

/// The highest rate of an open loop at which a percentile stays below a bound.
@LoopActor struct RateSearch {
  static let doublings = 16
  static let refinements = 5
  nonisolated let percentile: Double
  nonisolated let bound: Duration

  /// `p99=200ms`.
  nonisolated init(_ text: String) throws(SkerryError) {
    let parts = text.split(separator: "=").map(String.init)
    guard parts.count == 2, parts[0].hasPrefix("p"), let percentile = Double(parts[0].dropFirst()),
      (1.0...99.99).contains(percentile), let bound = Options.time(parts[1]), bound > .zero
    else { throw SkerryError(.invalidArgument, "--find takes a percentile and its bound, such as p99=200ms") }
    self.percentile = percentile
    self.bound = bound
  }

  func run(
    _ context: BenchContext, _ recorder: Recorder, start: Double, _ step: (Double) async throws -> Latency
  ) async throws {
    var (low, high) = (0.0, max(start, 0.1))
    func holds(_ rate: Double) async throws -> Bool {
      let latency = try await step(rate)
      let found = latency.percentile(percentile)
      context.progress(
        "  \(Numbers.short(rate))/s: p\(Numbers.short(percentile)) \(Numbers.short(found.seconds * 1e3)) ms")
      return latency.count > 0 && found <= bound
    }
    for _ in 0..<Self.doublings {
      guard try await holds(high) else { break }
      (low, high) = (high, high * 2)
    }
    for _ in 0..<Self.refinements where low > 0 {
      let middle = (low + high) / 2
      if try await holds(middle) { low = middle } else { high = middle }
    }
    recorder.result.add(
      "highest rate with p\(Numbers.short(percentile)) below \(Numbers.short(bound.seconds * 1e3)) ms", low, "/s",
      .higher)
  }
}
