import API
import ArgumentParser
import Base
import ObjectModel

struct Delete: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Delete objects, and wait until they are gone.",
    discussion: """
      skerry delete -f web.yaml
      skerry delete pod web-1 --grace-period 5
      skerry delete pods -l app=web
      """)
  @OptionGroup var globals: GlobalOptions
  @OptionGroup var files: FileOptions
  @Option(name: [.customShort("l"), .customLong("selector")], help: "Label selector.") var selector = ""
  @Flag(name: .long, help: "All objects of the kind in the namespace.") var all = false
  @Option(name: .long, help: "Seconds to stop in; 0 kills at once.") var gracePeriod: Int64?
  @Flag(name: .long, help: "The same as --grace-period 0.") var force = false
  @Option(name: .long, help: "What belongs to it: background, foreground or orphan.") var cascade = "background"
  @Flag(inversion: .prefixedNo, help: "Wait until the objects are gone.") var wait = true
  @Option(name: .long, help: "Seconds to wait at most.") var timeout: Int64 = 300
  @Flag(name: .long, help: "Objects that are not there are no error.") var ignoreNotFound = false
  @Argument(help: "TYPE NAME… or TYPE/NAME….") var resources: [String] = []

  func execute(_ environment: Environment) async throws {
    guard
      let propagation = ["background": Propagation.background, "foreground": .foreground, "orphan": .orphan][cascade]
    else { throw SkerryError(.invalidArgument, "--cascade is background, foreground or orphan, not \"\(cascade)\"") }
    let options = DeleteOptions(gracePeriod: force ? 0 : gracePeriod, propagation: propagation)
    var waiting: [(ObjectReference, uid: String)] = []
    for (kind, reference) in try await targets(environment) {
      do {
        let object = try await environment.api().delete(reference, options: options, caller: environment.caller)
        waiting.append((reference, try object.decoded().uid))
        environment.console.print("\(kind.displayPrefix) \"\(reference.name)\" deleted")
      } catch let error as APIError where error.reason == .notFound && (ignoreNotFound || !files.filename.isEmpty) {
        environment.console.note("\(kind.displayPrefix) \"\(reference.name)\" not found")
      }
    }
    if wait { try await waitUntilGone(waiting, environment) }
  }

  @LoopActor private func targets(_ environment: Environment) async throws -> [(Kind, ObjectReference)] {
    if !files.filename.isEmpty {
      guard resources.isEmpty else { throw SkerryError(.invalidArgument, "name objects, or files with -f, not both") }
      // The reverse order of the manifests: what was made first goes last.
      return try environment.manifests(files.filename, recursive: files.recursive).reversed().map {
        ($0.kind, ObjectReference(resource: $0.kind.resource, namespace: $0.object.namespace, name: $0.object.name))
      }
    }
    var found: [(Kind, ObjectReference)] = []
    for target in try ResourceArguments(resources, environment).targets {
      let kind = try environment.kind(target.resource)
      if let name = target.name {
        found.append((kind, environment.reference(kind, name)))
        continue
      }
      guard all || !selector.isEmpty else {
        throw SkerryError(.invalidArgument, "name the objects to delete, or say -l SELECTOR or --all")
      }
      let objects = try await environment.listAll(
        kind, namespace: environment.namespace(of: kind), labels: selector
      ).objects
      found += objects.map {
        (kind, ObjectReference(resource: kind.resource, namespace: $0.namespace, name: $0.name))
      }
      if objects.isEmpty { environment.console.note("No resources found") }
    }
    return found
  }

  @LoopActor private func waitUntilGone(_ objects: [(ObjectReference, uid: String)], _ environment: Environment)
    async throws
  {
    let deadline = environment.scheduler.now + .seconds(timeout)
    for (reference, uid) in objects {
      while true {
        do {
          // Another object of the name is not the one that was deleted.
          guard try await environment.get(reference).uid == uid else { break }
        } catch let error as APIError where error.reason == .notFound { break }
        guard environment.scheduler.now < deadline else {
          throw SkerryError(
            .timeout, "\(reference.name) is still there after \(timeout) s; see its finalizers and its node")
        }
        try await environment.scheduler.sleep(for: .milliseconds(200))
      }
    }
  }
}
