import Base

/// Runs pods' sandboxes and containers. The shape follows CRI (k8s.io/cri-api), so that Docker and CRI can stand
/// beside the OCI and process runtimes behind the same conformance suite.
///
/// Every call is idempotent by id: after a crash the caller repeats what it does not know to be done. Ids are
/// chosen by the caller, so that a create record can be written before the create.
@LoopActor package protocol ContainerRuntime: AnyObject {
  /// `oci`, `process` …
  var name: String { get }

  /// Reconciles create records, running containers, exit files, mounts, namespaces and network reservations after a
  /// start; removes what no record names. Called once, before any other call.
  func recover() async throws(SkerryError)

  /// Makes sure that the image is unpacked; answers its digest (`sha256:…`). Reports progress in bytes.
  func pull(_ image: String, policy: PullPolicy, credentials: RegistryCredentials?) async throws(SkerryError)
    -> ImageStatus
  func images() async throws(SkerryError) -> [ImageStatus]
  func removeImage(_ digest: String) async throws(SkerryError)

  func runSandbox(_ config: SandboxConfig) async throws(SkerryError) -> SandboxStatus
  /// Stops its containers, takes its network down, keeps its record.
  func stopSandbox(_ id: String) async throws(SkerryError)
  func removeSandbox(_ id: String) async throws(SkerryError)
  func sandboxes() async throws(SkerryError) -> [SandboxStatus]
  /// The sandboxes of one pod. Costs what that pod has, not what the node has.
  func sandboxes(ofPod uid: String) async throws(SkerryError) -> [SandboxStatus]

  func createContainer(_ config: ContainerConfig) async throws(SkerryError)
  /// Starts a created container. One that cannot be started (its program is missing) throws, and is then exited. A
  /// container runs once: the next start of the same one is another container with the next attempt. Containers that
  /// were created and never started do not outlive the runtime: `recover` removes them.
  func startContainer(_ id: String) async throws(SkerryError)
  /// The stop signal, then SIGKILL after `grace`; answers when the container has exited.
  func stopContainer(_ id: String, grace: Duration) async throws(SkerryError)
  /// Removes an exited container, its overlay and record; the log file stays until its sandbox goes.
  func removeContainer(_ id: String) async throws(SkerryError)
  func containers() async throws(SkerryError) -> [ContainerStatus]
  /// The containers whose label `RuntimeLabels.podUID` names the pod. Costs what that pod has, not what the node has.
  func containers(ofPod uid: String) async throws(SkerryError) -> [ContainerStatus]

  /// Runs a command in a running container.
  func exec(_ id: String, _ request: ExecRequest) async throws(SkerryError) -> any ExecSession
  /// CPU time and memory now.
  func stats(_ id: String) async throws(SkerryError) -> ContainerStats

  /// Called on the loop when a container's state changed by itself (it exited, was killed for memory).
  var onEvent: (@LoopActor (_ containerID: String) -> Void)? { get set }
}

/// Labels that runtimes know the meaning of.
package enum RuntimeLabels {
  /// On every container: the uid of its pod (CRI's name for it, k8s.io/kubelet/pkg/types).
  package static let podUID = "io.kubernetes.pod.uid"
}

package enum PullPolicy: String, Sendable {
  case always = "Always"
  case ifNotPresent = "IfNotPresent"
  case never = "Never"
}

package struct RegistryCredentials: Sendable, Hashable {
  package var username: String
  package var password: String
  package init(username: String, password: String) {
    self.username = username
    self.password = password
  }
}

package struct ImageStatus: Sendable, Hashable {
  /// Of the manifest, `sha256:…`.
  package var digest: String
  /// The names it was pulled by.
  package var references: [String]
  package var bytes: Int64
  package init(digest: String, references: [String], bytes: Int64) {
    self.digest = digest
    self.references = references
    self.bytes = bytes
  }
}

package struct SandboxConfig: Sendable, Hashable {
  package var id: String
  package var podName: String
  package var podNamespace: String
  package var podUID: String
  package var hostname: String
  package var hostNetwork: Bool
  package var portMappings: [PortMapping]
  package var dnsServers: [String]
  package var dnsSearches: [String]
  /// Where the containers' log files go: `<logDirectory>/<container>/<attempt>.log`, in the CRI log format.
  package var logDirectory: String
  package var labels: [String: String]
  package init(
    id: String, podName: String, podNamespace: String, podUID: String, hostname: String, hostNetwork: Bool = false,
    portMappings: [PortMapping] = [], dnsServers: [String] = [], dnsSearches: [String] = [], logDirectory: String,
    labels: [String: String] = [:]
  ) {
    self.id = id
    self.podName = podName
    self.podNamespace = podNamespace
    self.podUID = podUID
    self.hostname = hostname
    self.hostNetwork = hostNetwork
    self.portMappings = portMappings
    self.dnsServers = dnsServers
    self.dnsSearches = dnsSearches
    self.logDirectory = logDirectory
    self.labels = labels
  }
}

package struct PortMapping: Sendable, Hashable {
  package var hostPort: Int
  package var containerPort: Int
  /// `tcp` or `udp`.
  package var transport: String
  package init(hostPort: Int, containerPort: Int, transport: String) {
    self.hostPort = hostPort
    self.containerPort = containerPort
    self.transport = transport
  }
}

package struct SandboxStatus: Sendable, Hashable {
  package var id: String
  package var podUID: String
  package var ready: Bool
  /// Empty with the host's network or before the network is up.
  package var addresses: [String]
  /// Of the network namespace file; nil with the host's network.
  package var networkNamespace: String?
  package var createdAt: WallTime
  package var labels: [String: String]
  package init(
    id: String, podUID: String, ready: Bool, addresses: [String], networkNamespace: String?, createdAt: WallTime,
    labels: [String: String]
  ) {
    self.id = id
    self.podUID = podUID
    self.ready = ready
    self.addresses = addresses
    self.networkNamespace = networkNamespace
    self.createdAt = createdAt
    self.labels = labels
  }
}

package struct Mount: Sendable, Hashable {
  package var hostPath: String
  package var containerPath: String
  package var readOnly: Bool
  package init(hostPath: String, containerPath: String, readOnly: Bool) {
    self.hostPath = hostPath
    self.containerPath = containerPath
    self.readOnly = readOnly
  }
}

package struct ResourceLimits: Sendable, Hashable {
  /// Thousandths of a core; nil: none.
  package var cpuMillis: Int64?
  package var cpuRequestMillis: Int64?
  package var memoryBytes: Int64?
  /// Always bounded; the default is `Limits.pidsPerContainer`.
  package var pids: Int64
  package init(cpuMillis: Int64? = nil, cpuRequestMillis: Int64? = nil, memoryBytes: Int64? = nil, pids: Int64 = 1024) {
    self.cpuMillis = cpuMillis
    self.cpuRequestMillis = cpuRequestMillis
    self.memoryBytes = memoryBytes
    self.pids = pids
  }
}

/// The pod's and container's securityContext, merged.
package struct SecurityConfig: Sendable, Hashable {
  package var runAsUser: Int64?
  package var runAsGroup: Int64?
  package var supplementalGroups: [Int64] = []
  package var runAsNonRoot = false
  package var privileged = false
  package var readOnlyRootFilesystem = false
  package var allowPrivilegeEscalation = false
  package var addCapabilities: [String] = []
  package var dropCapabilities: [String] = []
  package init() {}
}

package struct ContainerConfig: Sendable, Hashable {
  package var id: String
  package var sandboxID: String
  /// The container's name in the pod, and the number of this start of it from 0.
  package var name: String
  package var attempt: Int
  /// The digest that `pull` answered.
  package var image: String
  /// Empty: the image's entrypoint. As in Kubernetes, `command` replaces the entrypoint and clears the image's cmd.
  package var command: [String]
  package var arguments: [String]
  package var workingDirectory: String
  package var environment: [(key: String, value: String)] {
    get { environmentPairs.map { ($0.key, $0.value) } }
    set { environmentPairs = newValue.map { Pair(key: $0.key, value: $0.value) } }
  }
  package var mounts: [Mount]
  package var resources: ResourceLimits
  package var security: SecurityConfig
  package var tty: Bool
  package var stdin: Bool
  package var labels: [String: String]

  private struct Pair: Sendable, Hashable {
    var key: String
    var value: String
  }
  private var environmentPairs: [Pair] = []

  package init(
    id: String, sandboxID: String, name: String, attempt: Int, image: String, command: [String] = [],
    arguments: [String] = [], workingDirectory: String = "", environment: [(key: String, value: String)] = [],
    mounts: [Mount] = [], resources: ResourceLimits = ResourceLimits(), security: SecurityConfig = SecurityConfig(),
    tty: Bool = false, stdin: Bool = false, labels: [String: String] = [:]
  ) {
    self.id = id
    self.sandboxID = sandboxID
    self.name = name
    self.attempt = attempt
    self.image = image
    self.command = command
    self.arguments = arguments
    self.workingDirectory = workingDirectory
    self.mounts = mounts
    self.resources = resources
    self.security = security
    self.tty = tty
    self.stdin = stdin
    self.labels = labels
    self.environment = environment
  }
}

package struct ContainerStatus: Sendable, Hashable {
  package enum State: Sendable, Hashable {
    case created
    case running(pid: Int32)
    /// `reason` is `Completed`, `Error` or `OOMKilled`; `StartError`, with code 128, when it could not be started.
    case exited(code: Int32, reason: String)
    /// It was running, and is neither running nor has an exit file (a reboot).
    case unknown
  }
  package var id: String
  package var sandboxID: String
  package var name: String
  package var attempt: Int
  package var image: String
  package var state: State
  package var createdAt: WallTime
  package var startedAt: WallTime?
  package var finishedAt: WallTime?
  package var logPath: String
  package var cgroupPath: String?
  package var labels: [String: String]
  package init(
    id: String, sandboxID: String, name: String, attempt: Int, image: String, state: State, createdAt: WallTime,
    startedAt: WallTime?, finishedAt: WallTime?, logPath: String, cgroupPath: String?, labels: [String: String]
  ) {
    self.id = id
    self.sandboxID = sandboxID
    self.name = name
    self.attempt = attempt
    self.image = image
    self.state = state
    self.createdAt = createdAt
    self.startedAt = startedAt
    self.finishedAt = finishedAt
    self.logPath = logPath
    self.cgroupPath = cgroupPath
    self.labels = labels
  }
}

package struct ContainerStats: Sendable, Hashable {
  package var cpuNanoseconds: UInt64
  package var memoryBytes: UInt64
  package init(cpuNanoseconds: UInt64, memoryBytes: UInt64) {
    self.cpuNanoseconds = cpuNanoseconds
    self.memoryBytes = memoryBytes
  }
}

package struct ExecRequest: Sendable, Hashable {
  package var command: [String]
  package var tty: Bool
  package var stdin: Bool
  package init(command: [String], tty: Bool = false, stdin: Bool = false) {
    self.command = command
    self.tty = tty
    self.stdin = stdin
  }
}

/// A command that runs in a container. Output waits, unread, in the kernel's pipe while nobody receives it.
@LoopActor package protocol ExecSession: AnyObject {
  /// The next output, with 1 for stdout and 2 for stderr; nil when both have ended.
  func receive() async throws(SkerryError) -> (stream: Int, bytes: Bytes)?
  /// Suspends while the command does not read.
  func write(_ bytes: Bytes) async throws(SkerryError)
  func closeInput()
  func resize(width: Int, height: Int)
  /// The exit code; 128 + signal when it was killed. Waits for it.
  func exitCode() async throws(SkerryError) -> Int32
  func kill()
}
