import API
import ArgumentParser
import Base
import ObjectModel

struct Rollout: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Follow, undo, pause, resume or restart the rollout of a deployment.",
    subcommands: [Status.self, Undo.self, Pause.self, Resume.self, Restart.self, History.self])

  /// Where a deployment's revision is kept.
  static let revisionAnnotation = "deployment.kubernetes.io/revision"

  /// What all of these share: the deployment that is named.
  struct Target: ParsableArguments, Sendable {
    @Argument(help: "deployment/NAME, or NAME.") var resource: [String]

    @LoopActor func reference(_ environment: Environment) throws -> ObjectReference {
      let (kind, reference) = try ResourceArguments.single(resource, environment, default: .deployment)
      guard kind.resource == Kind.deployment.resource else {
        throw SkerryError(.invalidArgument, "a \(kind.kind) has no rollout; name a deployment")
      }
      return reference
    }
  }

  /// Whether a rollout is done, in kubectl's words. Source:
  /// https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status
  static func progress(_ object: Object) throws(SkerryError) -> (message: String, isDone: Bool) {
    let (spec, status) = (object.spec, object.status)
    guard (status["observedGeneration"].int ?? 0) >= object.generation else {
      return ("Waiting for deployment spec update to be observed...", false)
    }
    if let condition = Conditions.get(status, "Progressing"), condition.reason == "ProgressDeadlineExceeded" {
      throw SkerryError(.timeout, "deployment \"\(object.name)\" exceeded its progress deadline")
    }
    let wanted = spec["replicas"].int ?? 1
    let (updated, all) = (status["updatedReplicas"].int ?? 0, status["replicas"].int ?? 0)
    let available = status["availableReplicas"].int ?? 0
    let start = "Waiting for deployment \"\(object.name)\" rollout to finish: "
    if updated < wanted { return ("\(start)\(updated) out of \(wanted) new replicas have been updated...", false) }
    if all > updated { return ("\(start)\(all - updated) old replicas are pending termination...", false) }
    if available < updated {
      return ("\(start)\(available) of \(updated) updated replicas are available...", false)
    }
    return ("deployment \"\(object.name)\" successfully rolled out", true)
  }

  struct Status: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Wait until a rollout is done, saying how far it is.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    @Flag(name: [.customShort("w"), .long], inversion: .prefixedNo, help: "Wait for the end.") var watch = true
    @Option(name: .long, help: "Seconds to wait at most; 0: for ever.") var timeout: Int64 = 0

    func execute(_ environment: Environment) async throws {
      let reference = try target.reference(environment)
      let started = environment.scheduler.now
      var last = ""
      while true {
        let (message, isDone) = try Rollout.progress(try await environment.get(reference))
        if message != last { environment.console.print(message) }
        last = message
        if isDone || !watch { return }
        guard timeout == 0 || environment.scheduler.now - started < .seconds(timeout) else {
          throw SkerryError(.timeout, "the rollout of \"\(reference.name)\" is not done after \(timeout) s")
        }
        try await environment.scheduler.sleep(for: .milliseconds(250))
      }
    }
  }

  struct Undo: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Go back to an earlier revision.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    @Option(name: .long, help: "The revision; 0: the one before.") var toRevision: Int64 = 0

    func execute(_ environment: Environment) async throws {
      let reference = try target.reference(environment)
      let deployment = try await environment.get(reference)
      if deployment.spec["paused"].bool == true {
        throw SkerryError(.conflict, "deployment \"\(reference.name)\" is paused; resume it first")
      }
      let revisions = try await Rollout.revisions(of: deployment, environment)
      guard let current = revisions.last else {
        throw SkerryError(.notFound, "deployment \"\(reference.name)\" has no revision yet")
      }
      let wanted =
        toRevision == 0
        ? revisions.dropLast().last : revisions.first { $0.number == toRevision }
      guard let wanted else {
        let known = revisions.map { String($0.number) }.joined(separator: ", ")
        throw SkerryError(.notFound, "there is no such revision of \"\(reference.name)\"; there is \(known)")
      }
      var template = wanted.object.spec["template"]
      template["metadata"]["labels"].remove("pod-template-hash")
      guard wanted.number != current.number, template != deployment.spec["template"] else {
        environment.console.print(
          "deployment.apps/\(reference.name) skipped rollback (current template already matches revision "
            + "\(wanted.number))")
        return
      }
      _ = try await environment.patch(
        reference, [["op": "replace", "path": "/spec/template", "value": template]], type: .json)
      environment.console.print("deployment.apps/\(reference.name) rolled back")
    }
  }

  struct History: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Print the revisions.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    @Option(name: .long, help: "Show the pod template of one.") var revision: Int64?

    func execute(_ environment: Environment) async throws {
      let reference = try target.reference(environment)
      let revisions = try await Rollout.revisions(of: environment.get(reference), environment)
      if let revision {
        guard let found = revisions.first(where: { $0.number == revision }) else {
          throw SkerryError(.notFound, "there is no revision \(revision) of \"\(reference.name)\"")
        }
        environment.console.printText(YAMLPrinter.print(found.object.spec["template"]))
        return
      }
      environment.console.print("deployment.apps/\(reference.name)")
      var table = Table(["Revision", "Change-Cause"])
      table.rows = revisions.map {
        [String($0.number), $0.object.annotations["kubernetes.io/change-cause"] ?? "<none>"]
      }
      environment.console.printText(table.text())
    }
  }

  /// The deployment's ReplicaSets with their revision numbers, oldest first.
  @LoopActor static func revisions(of deployment: Object, _ environment: Environment) async throws
    -> [(number: Int64, object: Object)]
  {
    let all = try await environment.listAll(.replicaSet, namespace: deployment.namespace).objects
    var revisions: [(number: Int64, object: Object)] = []
    for object in all where object.controllerReference?.uid == deployment.uid {
      let number = Int64(object.annotations[revisionAnnotation] ?? "") ?? 0
      if number > 0 { revisions.append((number, object)) }
    }
    return revisions.sorted { $0.number < $1.number }
  }

  struct Pause: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Changes of the template wait until resume.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    func execute(_ environment: Environment) async throws {
      try await Rollout.setPaused(true, target.reference(environment), environment)
    }
  }

  struct Resume: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Go on after pause.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    func execute(_ environment: Environment) async throws {
      try await Rollout.setPaused(false, target.reference(environment), environment)
    }
  }

  @LoopActor static func setPaused(_ paused: Bool, _ reference: ObjectReference, _ environment: Environment)
    async throws
  {
    let isPaused = try await environment.get(reference).spec["paused"].bool ?? false
    guard isPaused != paused else {
      throw SkerryError(.conflict, "deployment \"\(reference.name)\" is \(paused ? "paused already" : "not paused")")
    }
    _ = try await environment.patch(reference, ["spec": ["paused": paused ? true : .null]])
    environment.console.print("deployment.apps/\(reference.name) \(paused ? "paused" : "resumed")")
  }

  struct Restart: ClusterCommand {
    static let configuration = CommandConfiguration(abstract: "Replace every pod by a new one.")
    @OptionGroup var globals: GlobalOptions
    @OptionGroup var target: Target
    func execute(_ environment: Environment) async throws {
      let reference = try target.reference(environment)
      let stamp = Value.string(Timestamp.format(environment.now))
      _ = try await environment.patch(
        reference,
        ["spec": ["template": ["metadata": ["annotations": ["kubectl.kubernetes.io/restartedAt": stamp]]]]])
      environment.console.print("deployment.apps/\(reference.name) restarted")
    }
  }
}
