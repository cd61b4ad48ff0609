import Base
import EventLoop
import ObjectModel

/// Reads an OCI image layout (github.com/opencontainers/image-spec/blob/v1.0.2/image-layout.md); blocking.
enum OCILayout {
  struct Manifest: Sendable {
    /// Of the manifest's bytes, `sha256:…`.
    var digest: String
    /// Of manifest, configuration and layers together.
    var bytes: Int64
    var config: ImageConfig
    /// The blobs that make the image, by the hexadecimal part of their digest: manifest, configuration, layers.
    var blobs: [String]
  }

  /// The one manifest of a layout that `ImageSource.fetch` wrote.
  static func manifest(_ layout: String) throws(SkerryError) -> Manifest {
    let index = try Records.read("\(layout)/index.json")
    guard let entries = index["manifests"].array, entries.count == 1 else {
      throw SkerryError(.corrupt, "\(layout)/index.json should name one image")
    }
    let name = try blobName(entries[0])
    let manifest = try Records.read("\(layout)/blobs/sha256/\(name)")
    guard let layers = manifest["layers"].array, manifest["config"].object != nil else {
      throw SkerryError(.corrupt, "sha256:\(name) is not the manifest of an image")
    }
    guard layers.count <= ImageStore.maxLayers else {
      throw SkerryError(
        .limitExceeded, "the image has \(layers.count) layers; at most \(ImageStore.maxLayers) are taken")
    }
    let configName = try blobName(manifest["config"])
    var blobs = [name, configName]
    for layer in layers {
      let layerName = try blobName(layer)
      if !blobs.contains(layerName) { blobs.append(layerName) }
    }
    var bytes: Int64 = 0
    for blob in blobs {
      guard let found = Files.look("\(layout)/blobs/sha256/\(blob)") else {
        throw SkerryError(.corrupt, "blob sha256:\(blob) of the image is missing")
      }
      bytes += found.bytes
    }
    let config = ImageConfig(document: try Records.read("\(layout)/blobs/sha256/\(configName)"))
    return Manifest(digest: "sha256:\(name)", bytes: bytes, config: config, blobs: blobs)
  }

  /// The hexadecimal part of a descriptor's digest; it becomes a file name, so it is checked to be nothing else.
  private static func blobName(_ descriptor: Value) throws(SkerryError) -> String {
    let digest = descriptor["digest"].string ?? ""
    let name = digest.dropFirst("sha256:".count)
    guard digest.hasPrefix("sha256:"), name.utf8.count == 64, let raw = Bytes(hex: name), raw.hex == name else {
      throw SkerryError(.corrupt, "\"\(digest)\" is not a sha256 digest; no other kind is taken")
    }
    return String(name)
  }
}
