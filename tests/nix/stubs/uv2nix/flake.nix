{
  description = "Stand-in for uv2nix: reads pyproject.toml and uv.lock, and holds one against the other";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs";
  inputs.pyproject-nix.url = "github:pyproject-nix/pyproject.nix";

  outputs =
    {
      self,
      nixpkgs,
      pyproject-nix,
    }:
    let
      inherit (builtins)
        any
        attrNames
        concatMap
        elem
        filter
        fromTOML
        head
        isString
        listToAttrs
        map
        match
        readFile
        replaceStrings
        ;

      check = condition: message: if condition then true else throw message;

      # Its canonical name, without extras, versions and markers.
      nameOf =
        requirement:
        replaceStrings [ "_" "." ] [ "-" "-" ] (head (match "([A-Za-z0-9._-]+).*" requirement));

      # Dependencies of Linux; other markers (Python versions, machines) hold for all of ours.
      onLinux =
        dependency:
        match ".*(win32|emscripten|darwin|Windows|cygwin|PyPy|pypy).*" (
          replaceStrings
            [ "sys_platform != 'win32'" "sys_platform != 'emscripten'" "sys_platform != 'darwin'" ]
            [ "" "" "" ]
            (dependency.marker or "")
        ) == null;
    in
    {
      lib.workspace.loadWorkspace =
        { workspaceRoot }:
        let
          pyproject = fromTOML (readFile (workspaceRoot + "/pyproject.toml"));
          lock = fromTOML (readFile (workspaceRoot + "/uv.lock"));
          own = head (filter (p: p.name == pyproject.project.name) lock.package);
          locked = map (p: p.name) own.dependencies;
          declared = map nameOf pyproject.project.dependencies;
          groups = pyproject.dependency-groups;
          lockedGroup = name: map (p: p.name) own.dev-dependencies.${name};
          fits =
            check (lock.version == 1) "uv.lock is of another version"
            && check (lock.requires-python == pyproject.project.requires-python) "other Python in uv.lock"
            && check (
              filter (name: !elem name locked) declared == [ ] && filter (name: !elem name declared) locked == [ ]
            ) "uv.lock does not fit the dependencies of pyproject.toml"
            && check (
              !any (
                group:
                filter (entry: isString entry && !elem (nameOf entry) (lockedGroup group)) groups.${group} != [ ]
              ) (attrNames groups)
            ) "uv.lock does not fit the dependency groups of pyproject.toml";
        in
        {
          deps.default = if fits then { ${own.name} = [ ]; } else { };

          mkPyprojectOverlay =
            { sourcePreference }:
            assert sourcePreference == "wheel";
            final: prev:
            let
              machine = if final.python.system == "aarch64-linux" then "aarch64" else "x86_64";
              usable =
                wheel:
                match ".*-(cp312-cp312|cp3[0-9]+-abi3|(py2[.])?py3-none|cp312-none)-([^-]*manylinux[^-]*_${machine}[^-]*|any)[.]whl"
                  wheel.url != null;

              package =
                p: attributes:
                derivation (
                  {
                    name = "${p.name}-${p.version}";
                    inherit (final.python) system;
                    builder = "/bin/sh";
                    args = [ "-c" ''echo > "$out"'' ];
                  }
                  // attributes
                )
                // {
                  pname = p.name;
                  format =
                    if p.source ? editable then
                      "editable"
                    else if any usable (p.wheels or [ ]) then
                      "wheel"
                    else if p ? sdist then
                      "pyproject"
                    else
                      throw "${p.name} has neither a wheel for ${machine} nor a source";
                  needs = map (d: d.name) (
                    filter onLinux (
                      (p.dependencies or [ ]) ++ concatMap (extra: p.optional-dependencies.${extra}) (
                        attrNames (if p.name == own.name then { } else p.optional-dependencies or { })
                      )
                    )
                  );
                  groups = names: concatMap (name: map (d: d.name) p.dev-dependencies.${name}) names;
                  nativeBuildInputs = attributes.nativeBuildInputs;
                  src = workspaceRoot;
                  overrideAttrs = change: package p (attributes // change attributes);
                };
            in
            listToAttrs (
              map (p: {
                inherit (p) name;
                value = package p { nativeBuildInputs = [ ]; };
              }) lock.package
            );
        };
    };
}
