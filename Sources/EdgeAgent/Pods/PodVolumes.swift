import Base
import ContainerRuntime
import EventLoop
import ObjectModel

/// One file of a ConfigMap, Secret, downward API or projected volume.
package struct VolumeFile: Sendable, Hashable {
  package var path: String
  package var bytes: Bytes
  package var mode: UInt32
  package init(path: String, bytes: Bytes, mode: UInt32) {
    self.path = path
    self.bytes = bytes
    self.mode = mode
  }
}

/// What a volume of a pod is, once everything it refers to was looked up.
package enum ResolvedVolume: Sendable, Hashable {
  /// Files kept up to date, on memory only: they may hold secrets.
  case files([VolumeFile])
  case emptyDirectory(inMemory: Bool)
  case hostPath(String, type: String)
}

/// Turns a pod's `volumes` into `ResolvedVolume`s. Pure.
package enum PodVolumeResolver {
  package static func resolve(_ volume: Value, _ fields: FieldSource, sources: PodSources) throws(PodConfigError)
    -> ResolvedVolume
  {
    if !volume["emptyDir"].isNull {
      return .emptyDirectory(inMemory: volume["emptyDir"]["medium"].string == "Memory")
    }
    if let path = volume["hostPath"]["path"].string {
      return .hostPath(path, type: volume["hostPath"]["type"].string ?? "")
    }
    if !volume["configMap"].isNull {
      return .files(try map(volume["configMap"], "name", fields, sources, secret: false))
    }
    if !volume["secret"].isNull {
      return .files(try map(volume["secret"], "secretName", fields, sources, secret: true))
    }
    if !volume["downwardAPI"].isNull {
      return .files(try downward(volume["downwardAPI"], fields, mode: mode(volume["downwardAPI"])))
    }
    if !volume["projected"].isNull {
      var files: [VolumeFile] = []
      let mode = mode(volume["projected"])
      for source in volume["projected"]["sources"].array ?? [] {
        if !source["configMap"].isNull {
          files += try map(source["configMap"], "name", fields, sources, secret: false, mode)
        }
        if !source["secret"].isNull { files += try map(source["secret"], "name", fields, sources, secret: true, mode) }
        if !source["downwardAPI"].isNull { files += try downward(source["downwardAPI"], fields, mode: mode) }
      }
      return .files(files)
    }
    throw PodConfigError("volume \"\(volume["name"].string ?? "")\" is of a type that is not supported on this node")
  }

  private static func mode(_ source: Value) -> UInt32 { UInt32(clamping: source["defaultMode"].int ?? 0o644) }

  private static func map(
    _ source: Value, _ nameKey: String, _ fields: FieldSource, _ sources: PodSources, secret: Bool,
    _ inherited: UInt32? = nil
  ) throws(PodConfigError) -> [VolumeFile] {
    let name = source[nameKey].string ?? ""
    let kind = secret ? "secret" : "configmap"
    guard let object = secret ? sources.secret(name) : sources.configMap(name) else {
      if source["optional"].bool == true { return [] }
      throw PodConfigError("\(kind) \"\(name)\" not found")
    }
    let mode = inherited ?? mode(source)
    var contents: [String: Bytes] = [:]
    for (key, text) in object.value["data"].stringMap {
      guard let bytes = secret ? Base64.decode(text) : Bytes(text.utf8) else {
        throw PodConfigError("key \(key) of \(kind) \(fields.facts.namespace)/\(name) is not base64")
      }
      contents[key] = bytes
    }
    for (key, text) in object.value["binaryData"].stringMap { contents[key] = Base64.decode(text) ?? [] }
    guard let items = source["items"].array else {
      return contents.sorted { $0.key < $1.key }.map { VolumeFile(path: $0.key, bytes: $0.value, mode: mode) }
    }
    var files: [VolumeFile] = []
    for item in items {
      let key = item["key"].string ?? ""
      guard let bytes = contents[key] else {
        if source["optional"].bool == true { continue }
        throw PodConfigError("references non-existent \(kind) key: \(key)")
      }
      let path = try checked(item["path"].string ?? key)
      files.append(VolumeFile(path: path, bytes: bytes, mode: item["mode"].int.map { UInt32(clamping: $0) } ?? mode))
    }
    return files
  }

  private static func downward(_ source: Value, _ fields: FieldSource, mode: UInt32) throws(PodConfigError)
    -> [VolumeFile]
  {
    var files: [VolumeFile] = []
    for item in source["items"].array ?? [] {
      let path = try checked(item["path"].string ?? "")
      let text = try fields.value(item["fieldRef"]["fieldPath"].string ?? "")
      files.append(
        VolumeFile(path: path, bytes: Bytes(text.utf8), mode: item["mode"].int.map { UInt32(clamping: $0) } ?? mode))
    }
    return files
  }

  /// A relative path that stays inside the volume.
  private static func checked(_ path: String) throws(PodConfigError) -> String {
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    guard !path.isEmpty, !parts.contains(".."), !parts.contains("") else {
      throw PodConfigError("volume path \"\(path)\" must be relative and must not contain '..'")
    }
    return path
  }
}

/// Makes, updates and removes the directories of pods' volumes. Blocking: run it by `offload`.
///
/// What may hold secrets lies below `volatileRoot`, which is on memory; it is written again after a reboot.
package struct PodVolumeStore: Sendable {
  /// `<data>/pods`.
  package let root: String
  /// On a tmpfs.
  package let volatileRoot: String
  package init(root: String, volatileRoot: String) {
    self.root = root
    self.volatileRoot = volatileRoot
  }

  /// The host path of a volume, made or brought up to date.
  package func prepare(podUID: String, name: String, _ volume: ResolvedVolume) throws(SkerryError) -> String {
    switch volume {
    case .hostPath(let path, let type): return try hostPath(path, type: type)
    case .emptyDirectory(let inMemory):
      let path = "\(inMemory ? volatileRoot : root)/\(podUID)/empty/\(name)"
      if !Files.exists(path) {
        try Files.makeDirectory(path)
        // As Kubernetes: every user of the pod's containers may write to an emptyDir.
        try Files.setMode(path, 0o777)
      }
      return path
    case .files(let files):
      let path = "\(volatileRoot)/\(podUID)/files/\(name)"
      try Files.makeDirectory(path)
      try replace(path, files)
      return path
    }
  }

  /// All files appear at once: they are links through `..data`, which is swapped by one rename.
  private func replace(_ path: String, _ files: [VolumeFile]) throws(SkerryError) {
    let mark = "..v" + Self.fingerprint(files)
    if Files.linkTarget("\(path)/..data") == mark { return }
    let fresh = "\(path)/\(mark)"
    try Files.removeTree(fresh)
    try Files.makeDirectory(fresh)
    for file in files {
      let target = "\(fresh)/\(file.path)"
      if let slash = target.lastIndex(of: "/") { try Files.makeDirectory(String(target[..<slash])) }
      try Files.write(target, file.bytes, mode: file.mode)
      try Files.setMode(target, file.mode)
    }
    try Files.replaceLink("\(path)/..data", target: mark)
    let tops = Set(files.map { String($0.path.split(separator: "/").first ?? "") })
    for top in tops { try Files.replaceLink("\(path)/\(top)", target: "..data/\(top)") }
    for name in Files.list(path) where name != "..data" && name != mark && !tops.contains(name) {
      try Files.removeTree("\(path)/\(name)")
    }
  }

  /// Tells versions of the same volume apart; the files are compared by content, not by time.
  private static func fingerprint(_ files: [VolumeFile]) -> String {
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    func take(_ bytes: some Sequence<UInt8>) { for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 } }
    for file in files {
      take(file.path.utf8)
      take([0])
      take(file.bytes)
      take([0, UInt8(truncatingIfNeeded: file.mode), UInt8(truncatingIfNeeded: file.mode >> 8)])
    }
    var out: Bytes = []
    out.append(bigEndian: hash)
    return out.hex
  }

  private func hostPath(_ path: String, type: String) throws(SkerryError) -> String {
    switch type {
    case "DirectoryOrCreate": try Files.makeDirectory(path)
    case "FileOrCreate": if !Files.exists(path) { try Files.write(path, []) }
    case "":
      break
    default:
      guard Files.exists(path) else {
        throw SkerryError(.notFound, "hostPath type check failed: \(path) is not there and its type is \(type)")
      }
      if type == "Directory", !Files.isDirectory(path) {
        throw SkerryError(.invalidArgument, "hostPath type check failed: \(path) is not a directory")
      }
    }
    return path
  }

  /// Removes everything that was made for a pod.
  package func remove(podUID: String) throws(SkerryError) {
    try Files.removeTree("\(root)/\(podUID)")
    try Files.removeTree("\(volatileRoot)/\(podUID)")
  }

  /// The uids that have a directory here: what a start after a crash compares with the pods.
  package func podUIDs() -> [String] { Array(Set(Files.list(root) + Files.list(volatileRoot))).sorted() }
}
