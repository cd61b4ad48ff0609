import Base

/// What differs between the OCI runtime and processes of the machine. conmon drives either in the same way: it calls
/// a runtime program to create the process, keeps its output and its exit code, and outlives us.
@LoopActor protocol Launcher: AnyObject {
  /// conmon's `--runtime` and its `--runtime-arg`s. The program is called as runc is: `create --bundle B --pid-file P
  /// ID`.
  var runtimeProgram: String { get }
  var runtimeArguments: [String] { get }

  /// Makes the bundle and what it needs. Called again for the same id after a failure.
  func prepare(_ config: ContainerConfig, _ record: ContainerRecord) async throws(SkerryError)
  /// Lets a process go that conmon created.
  func start(_ record: ContainerRecord) async throws(SkerryError)
  /// False while a created process still waits for its start.
  func hasStarted(_ record: ContainerRecord) async throws(SkerryError) -> Bool
  /// Sends a signal to the container's first process; nothing if it has gone.
  func signal(_ record: ContainerRecord, _ signal: Int32) async throws(SkerryError)
  /// Kills what still runs and removes all that `prepare` and the runtime program made. Idempotent.
  func discard(id: String) async throws(SkerryError)
  /// What to run for a command in the container.
  func execArguments(_ record: ContainerRecord, _ request: ExecRequest) -> [String]
  /// Ids of which the runtime program or its state still knows.
  func knownIDs() async throws(SkerryError) -> [String]
}
