{
  description = "Stand-in for pyproject.nix's build systems";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs";
  inputs.pyproject-nix.url = "github:pyproject-nix/pyproject.nix";
  inputs.uv2nix.url = "github:pyproject-nix/uv2nix";

  outputs =
    {
      self,
      nixpkgs,
      pyproject-nix,
      uv2nix,
    }:
    {
      # What uv.lock does not have.
      overlays.wheel = final: prev: { uv-build = { }; };
    };
}
