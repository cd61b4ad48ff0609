import Base
import ContainerRuntime

/// A machine's container runtime as one process of it reaches it: the calls of a dead process have no effect.
@LoopActor package final class GatedRuntime: ContainerRuntime {
  private let inner: any ContainerRuntime
  private let process: SimProcess
  package init(_ inner: any ContainerRuntime, process: SimProcess) {
    self.inner = inner
    self.process = process
  }

  package var name: String { inner.name }
  package var onEvent: (@LoopActor (_ containerID: String) -> Void)? {
    get { inner.onEvent }
    set {
      guard process.isAlive else { return }
      let process = process
      guard let newValue else { return inner.onEvent = nil }
      inner.onEvent = { id in
        if process.isAlive { newValue(id) }
      }
    }
  }

  /// A dead process goes no further.
  private func gate() async { await process.passDeadEnd() }

  private func gated<R>(_ result: Result<R, SkerryError>) async throws(SkerryError) -> R {
    await gate()
    return try result.get()
  }

  package func recover() async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.recover()) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func pull(_ image: String, policy: PullPolicy, credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  {
    await gate()
    let result: Result<ImageStatus, SkerryError>
    do throws(SkerryError) {
      result = .success(try await inner.pull(image, policy: policy, credentials: credentials))
    } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func images() async throws(SkerryError) -> [ImageStatus] {
    await gate()
    let result: Result<[ImageStatus], SkerryError>
    do throws(SkerryError) { result = .success(try await inner.images()) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func removeImage(_ digest: String) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.removeImage(digest)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func runSandbox(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus {
    await gate()
    let result: Result<SandboxStatus, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.runSandbox(config)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func stopSandbox(_ id: String) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.stopSandbox(id)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func removeSandbox(_ id: String) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.removeSandbox(id)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func sandboxes() async throws(SkerryError) -> [SandboxStatus] {
    await gate()
    let result: Result<[SandboxStatus], SkerryError>
    do throws(SkerryError) { result = .success(try await inner.sandboxes()) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func createContainer(_ config: ContainerConfig) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.createContainer(config)) } catch {
      result = .failure(error)
    }
    return try await gated(result)
  }
  package func startContainer(_ id: String) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.startContainer(id)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func stopContainer(_ id: String, grace: Duration) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.stopContainer(id, grace: grace)) } catch {
      result = .failure(error)
    }
    return try await gated(result)
  }
  package func removeContainer(_ id: String) async throws(SkerryError) {
    await gate()
    let result: Result<Void, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.removeContainer(id)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func containers() async throws(SkerryError) -> [ContainerStatus] {
    await gate()
    let result: Result<[ContainerStatus], SkerryError>
    do throws(SkerryError) { result = .success(try await inner.containers()) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func exec(_ id: String, _ request: ExecRequest) async throws(SkerryError) -> any ExecSession {
    await gate()
    let result: Result<any ExecSession, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.exec(id, request)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func stats(_ id: String) async throws(SkerryError) -> ContainerStats {
    await gate()
    let result: Result<ContainerStats, SkerryError>
    do throws(SkerryError) { result = .success(try await inner.stats(id)) } catch { result = .failure(error) }
    return try await gated(result)
  }
  package func sandboxes(ofPod uid: String) async throws(SkerryError) -> [SandboxStatus] {
    await gate()
    let result: Result<[SandboxStatus], SkerryError>
    do throws(SkerryError) { result = .success(try await inner.sandboxes(ofPod: uid)) } catch {
      result = .failure(error)
    }
    return try await gated(result)
  }
  package func containers(ofPod uid: String) async throws(SkerryError) -> [ContainerStatus] {
    await gate()
    let result: Result<[ContainerStatus], SkerryError>
    do throws(SkerryError) { result = .success(try await inner.containers(ofPod: uid)) } catch {
      result = .failure(error)
    }
    return try await gated(result)
  }
}
