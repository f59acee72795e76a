{
  description = "Stand-in for pyproject.nix: a scope, and an environment made of its packages";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs";

  outputs =
    { self, nixpkgs }:
    let
      inherit (builtins)
        attrNames
        filter
        genericClosure
        map
        pathExists
        readFile
        replaceStrings
        unsafeDiscardStringContext
        ;

      # A Python of the host with the packages of uv.lock, if the caller names one.
      host =
        if pathExists ./host-python then replaceStrings [ "\n" ] [ "" ] (readFile ./host-python) else "";

      scope =
        base: overlay:
        let
          bare = base final;
          final = bare // overlay final bare // {
            overrideScope =
              next:
              scope base (
                f: p:
                let
                  seen = overlay f p;
                in
                seen // next f (p // seen)
              );
          };
        in
        final;
    in
    {
      build.packages =
        { pkgs, python }:
        scope (final: {
          inherit python;
          resolveBuildSystem = wanted: map (name: final.${name}) (attrNames wanted);

          # Every package that is needed on this system, each of which must be buildable.
          mkVirtualEnv =
            name: wanted:
            let
              node = package: {
                key = package.pname;
                inherit package;
              };
              closure = genericClosure {
                startSet = map (root: node final.${root}) (attrNames wanted);
                operator = item: map (dependency: node final.${dependency}) (
                  item.package.needs ++ (if wanted ? ${item.key} then item.package.groups wanted.${item.key} else [ ])
                );
              };
              packages = map (item: item.package) closure;
              all = filter (value: value ? pname) (map (attribute: final.${attribute}) (attrNames final));
              unbuildable = filter (p: p.format == "pyproject" && p.nativeBuildInputs == [ ]) packages;
            in
            if python.pythonVersion != "3.12" then
              throw "not the Python that uv.lock was made for"
            else if unbuildable != [ ] then
              throw "no build system for ${toString (map (p: p.pname) unbuildable)}"
            else
              # All code of the scope is evaluated, needed here or not; nothing of it is built.
              pkgs.runCommand name { packages = map (p: unsafeDiscardStringContext p.drvPath) all; } ''
                mkdir -p "$out/bin"
                printf '%s\n' '#!/bin/sh' 'export PYTHONPATH="''${PYTHONPATH:-${final.minivess.src}}"' 'exec ${host} "$@"' > "$out/bin/python"
                printf '%s\n' '#!/bin/sh' "exec $out/bin/python -m minivess \"\$@\"" > "$out/bin/minivess"
                chmod +x "$out/bin/python" "$out/bin/minivess"
              '';
        }) (final: prev: { });
    };
}
