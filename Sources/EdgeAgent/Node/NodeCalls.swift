import API
import Base
import ContainerRuntime
import EventLoop
import ObjectLog
import ObjectModel
import Wire

/// The calls on this node's pods that the cloud passes on: logs and exec.
@LoopActor package final class NodeCalls {
  private let runtime: any ContainerRuntime
  private let replica: any ObjectLog
  private let scheduler: any Scheduler

  package init(runtime: any ContainerRuntime, replica: any ObjectLog, scheduler: any Scheduler) {
    self.runtime = runtime
    self.replica = replica
    self.scheduler = scheduler
  }

  private func pod(_ reference: ObjectReference) throws(APIError) -> Object {
    do throws(SkerryError) {
      if let stored = try replica.read(reference.key, at: nil) { return Object(try CBOR.decode(stored.body)) }
    } catch {
      throw APIError(
        .internalError, "pod \(reference.namespace)/\(reference.name) cannot be read on its node: \(error)")
    }
    throw .notFound("pods", reference.name)
  }

  /// The container that is meant: the one that is named, or the pod's only or default one.
  private func find(_ pod: Object, _ name: String, previous: Bool) async throws(APIError) -> ContainerStatus {
    let facts = PodFacts(pod)
    let wanted =
      name.isEmpty
      ? pod.annotations["kubectl.kubernetes.io/default-container"] ?? facts.containers.first?.name ?? "" : name
    guard facts.container(wanted) != nil else {
      throw APIError(.badRequest, "container \(wanted) is not valid for pod \(pod.name)")
    }
    let starts = await containers(of: pod.uid).filter { $0.name == wanted }.sorted { $0.attempt > $1.attempt }
    guard let status = previous ? starts.dropFirst().first : starts.first else {
      let what =
        previous
        ? "previous terminated container \"\(wanted)\" in pod \"\(pod.name)\" not found"
        : "container \"\(wanted)\" in pod \"\(pod.name)\" is waiting to start"
      throw APIError(.badRequest, what)
    }
    return status
  }

  private func containers(of uid: String) async -> [ContainerStatus] {
    (try? await runtime.containers(ofPod: uid)) ?? []
  }

  /// `pods/log`.
  package func log(_ reference: ObjectReference, _ value: Value, _ stream: (any DuplexStream)?) async throws(APIError)
    -> Value
  {
    guard let stream else { throw APIError(.badRequest, "pods/log answers on a stream") }
    let options = LogOptions(value)
    let pod = try pod(reference)
    let status = try await find(pod, options.container, previous: options.previous)
    let (runtime, uid) = (runtime, pod.uid)
    let reader = LogReader(path: status.logPath, options: options, scheduler: scheduler) {
      ((try? await runtime.containers(ofPod: uid)) ?? []).contains { $0.id == status.id && $0.isRunning }
    }
    do throws(SkerryError) {
      try await reader.run { (bytes: Bytes) async throws(SkerryError) in
        for start in stride(from: 0, to: bytes.count, by: ExecMessage.maxPayload) {
          try await stream.send(Bytes(bytes[start..<min(start + ExecMessage.maxPayload, bytes.count)]))
        }
      }
    } catch {
      throw APIError(.internalError, "the log of \(reference.name) ended: \(error)")
    }
    stream.finish()
    return [:]
  }

  /// `pods/exec`.
  package func exec(_ reference: ObjectReference, _ value: Value, _ stream: (any DuplexStream)?) async throws(APIError)
    -> Value
  {
    guard let stream else { throw APIError(.badRequest, "pods/exec needs a stream") }
    let command = (value["command"].array ?? []).compactMap(\.string)
    guard !command.isEmpty else {
      throw APIError(.badRequest, "you must specify at least one command for the container")
    }
    let status = try await find(try pod(reference), value["container"].string ?? "", previous: false)
    guard status.isRunning else {
      throw APIError(
        .badRequest, "cannot exec into a container in a completed pod; container \(status.name) is not running")
    }
    let stdin = value["stdin"].bool ?? false
    do throws(SkerryError) {
      let session = try await runtime.exec(
        status.id, ExecRequest(command: command, tty: value["tty"].bool ?? false, stdin: stdin))
      if let width = value["width"].int, let height = value["height"].int {
        session.resize(width: Int(clamping: width), height: Int(clamping: height))
      }
      if !stdin { session.closeInput() }
      let feeder = spawn { await Self.feed(stream, session) }
      defer { feeder.cancel() }
      while let (channel, bytes) = try await session.receive() {
        for start in stride(from: 0, to: bytes.count, by: ExecMessage.maxPayload) {
          let piece = Bytes(bytes[start..<min(start + ExecMessage.maxPayload, bytes.count)])
          try await stream.send((channel == 2 ? ExecMessage.stderr(piece) : .stdout(piece)).message)
        }
      }
      let code = try await session.exitCode()
      stream.finish()
      return ["exitCode": .int(Int64(code))]
    } catch {
      throw APIError(.internalError, "exec in \(reference.name) failed: \(error)")
    }
  }

  /// Carries stdin and sizes to the command; a caller that goes away takes its command with it.
  private static func feed(_ stream: any DuplexStream, _ session: any ExecSession) async {
    do throws(SkerryError) {
      while let message = try await stream.receive() {
        switch ExecMessage(message) {
        case .stdin(let bytes)?: try await session.write(bytes)
        case .resize(let width, let height)?: session.resize(width: width, height: height)
        case .stdinEnd?: session.closeInput()
        case .stdout?, .stderr?, nil: break
        }
      }
      session.closeInput()
    } catch {
      session.kill()
    }
  }
}
