/// The product's version, as every daemon and client tells it.
package enum Version {
  package static let current = "0.1.0"
}
