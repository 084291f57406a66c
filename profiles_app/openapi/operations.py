"""The catalogue's operations, in the words of the API's description."""

from amplifierd.common.openapi.operation import PAGED, Operation
from amplifierd.common.openapi.schema import listed, nullable, ref, text
from profiles_app.api.serializers import collection_requests, profile_bodies, requests

PROFILES, DIRECTORIES, PLANS = "profiles", "directories", "mount plans"
COLLECTIONS, MODULES, CACHE = "collections", "modules", "cache"
LOCAL = "Only profiles of the collection `local` change; others are refused with 403."

OF_PROFILES = {
    "GET /profiles/": Operation(
        "list_profiles",
        PROFILES,
        "List profiles",
        "All profiles, newest first.",
        {200: listed(ref("Profile"))},
        headers=PAGED,
    ),
    "POST /profiles/": Operation(
        "create_profile",
        PROFILES,
        "Create a profile",
        "Makes a profile in the collection `local`. 409 where one has the name.",
        {201: ref("ProfileDetail")},
        body=profile_bodies.CreateProfile,
        example={
            "name": "mine",
            "description": "My assistant",
            "providers": [{"module": "provider-mock"}],
            "instruction": "Be brief.",
        },
        gives={"name": "$response.body#/name"},
    ),
    "GET /profiles/active": Operation(
        "get_active_profile",
        PROFILES,
        "Show the active profile",
        "The active profile in full, or null.",
        {200: nullable(ref("ProfileDetail"))},
    ),
    "DELETE /profiles/active": Operation(
        "deactivate_profile",
        PROFILES,
        "Let no profile be active",
        "From now on there is no active profile.",
        {200: ref("Success")},
    ),
    "GET /profiles/{name}": Operation(
        "get_profile",
        PROFILES,
        "Show a profile",
        "One profile in full. Its secrets are masked.",
        {200: ref("ProfileDetail")},
    ),
    "PATCH /profiles/{name}": Operation(
        "update_profile",
        PROFILES,
        "Change a profile",
        f"Makes a new version of it; sessions keep the one that they began with. {LOCAL}"
        " With `expected_version`: 409 where it is another one by now.",
        {200: ref("ProfileDetail")},
        body=profile_bodies.UpdateProfile,
        example={"description": "Briefer", "instruction": "Be very brief."},
        errors=(409,),
    ),
    "DELETE /profiles/{name}": Operation(
        "delete_profile",
        PROFILES,
        "Delete a profile",
        f"Deletes it with its versions; sessions keep theirs. {LOCAL} 409 while it is active.",
        {204: None},
        errors=(409,),
    ),
    "POST /profiles/{name}/activate": Operation(
        "activate_profile",
        PROFILES,
        "Make a profile the active one",
        "There is one active profile at most.",
        {200: ref("Activated")},
    ),
    "POST /profiles/{name}/copy": Operation(
        "copy_profile",
        PROFILES,
        "Copy a profile",
        "Copies any profile to the collection `local`. 409 where one has the new name.",
        {201: ref("ProfileDetail")},
        body=profile_bodies.CopyProfile,
        example={"new_name": "mine"},
    ),
    "POST /profiles/{name}/compile": Operation(
        "compile_profile",
        PROFILES,
        "Check a profile",
        "Tells whether a session would find all that the profile names; 400 says what is missing.",
        {200: ref("Compiled")},
    ),
    "GET /profiles/{name}/versions": Operation(
        "list_profile_versions",
        PROFILES,
        "List the versions of a profile",
        "Newest first.",
        {200: listed(ref("ProfileVersion"))},
        headers=PAGED,
    ),
    "GET /profiles/{name}/versions/{number}": Operation(
        "get_profile_version",
        PROFILES,
        "Show a version of a profile",
        "One version in full.",
        {200: ref("ProfileVersionDetail")},
    ),
    "GET /profiles/{name}/diff": Operation(
        "diff_profile_versions",
        PROFILES,
        "Compare two versions of a profile",
        "Without parameters: the newest version with the one before.",
        {200: ref("ProfileDiff")},
        query=profile_bodies.DiffQuery,
    ),
}

OF_DIRECTORIES = {
    "GET /amplified-directories/": Operation(
        "list_amplified_directories",
        DIRECTORIES,
        "List amplified directories",
        "All of them, in order of their paths.",
        {200: ref("AmplifiedDirectories")},
    ),
    "POST /amplified-directories/": Operation(
        "amplify_directory",
        DIRECTORIES,
        "Amplify a directory",
        "Makes the directory where it is not there. 400 for one that is amplified, an absolute"
        " path, `..`, or a way out of the root by a link.",
        {201: ref("AmplifiedDirectoryDetail")},
        body=requests.AmplifyDirectory,
        example={"relative_path": "projects/app", "default_profile": "foundation/base"},
        errors=(404,),
        gives={"path": "$response.body#/relative_path"},
    ),
    "PATCH /amplified-directories/": Operation(
        "update_root_directory",
        DIRECTORIES,
        "Change the root directory",
        "The same as with the path `root`: browsers turn `/.` into this.",
        {200: ref("AmplifiedDirectoryDetail")},
        body=requests.ChangeDirectory,
        example={"metadata": {"team": "core"}},
        errors=(404,),
    ),
    "GET /amplified-directories/{path}": Operation(
        "get_amplified_directory",
        DIRECTORIES,
        "Show an amplified directory",
        "One directory in full; `root` is the root directory.",
        {200: ref("AmplifiedDirectoryDetail")},
    ),
    "PATCH /amplified-directories/{path}": Operation(
        "update_amplified_directory",
        DIRECTORIES,
        "Change an amplified directory",
        "Sets its default profile, merges into its metadata.",
        {200: ref("AmplifiedDirectoryDetail")},
        body=requests.ChangeDirectory,
        example={"metadata": {"team": "core"}},
    ),
    "DELETE /amplified-directories/{path}": Operation(
        "release_amplified_directory",
        DIRECTORIES,
        "Amplify a directory no longer",
        "The directory and its files stay; with `remove_marker` its marker goes. 409 for the root.",
        {204: None},
        query=requests.RemoveDirectory,
        errors=(409,),
    ),
    "PUT /amplified-directories/{path}/agents": Operation(
        "write_agents_content",
        DIRECTORIES,
        "Write a directory's AGENTS.md",
        "Replaces the directory's instructions for agents.",
        {200: ref("AgentsWritten")},
        body=requests.AgentsContent,
        example={"content": "# House rules"},
    ),
    "GET /directories/list": Operation(
        "browse_directories",
        DIRECTORIES,
        "Browse directories",
        "The directories in a directory below the root, amplified or not, in order of their names.",
        {200: ref("DirectoryList")},
        query=requests.BrowseDirectories,
        errors=(404,),
    ),
    "GET /directories/files": Operation(
        "list_files",
        DIRECTORIES,
        "List files",
        "The files and directories in a directory below the root, in order of their names; hidden"
        " ones are left out. Needs the scope `write`, as all that reads files.",
        {200: ref("FileList")},
        query=requests.BrowseDirectories,
        errors=(404,),
    ),
    "GET /directories/file/content": Operation(
        "read_file",
        DIRECTORIES,
        "Read a file",
        "The text of a file below the root, at most its first MiB.",
        {200: ref("FileContent")},
        query=requests.ReadFile,
        errors=(404,),
    ),
    "GET /directories/file/download": Operation(
        "download_file",
        DIRECTORIES,
        "Download a file",
        "The bytes of a file below the root, as an attachment.",
        {200: text("The bytes.", format="binary")},
        query=requests.ReadFile,
        errors=(404,),
        media_type="application/octet-stream",
    ),
    "POST /directories/create": Operation(
        "create_directory",
        DIRECTORIES,
        "Make a directory",
        "Makes a directory below the root, with its parents.",
        {201: ref("DirectoryCreated")},
        body=requests.CreateDirectory,
        example={"relative_path": "projects/app"},
    ),
}

OF_PLANS = {
    "POST /mount-plans/generate": Operation(
        "generate_mount_plan",
        PLANS,
        "Generate a mount plan",
        "The plan that a session would get now; nothing is stored.",
        {201: ref("MountPlan")},
        body=requests.GenerateMountPlan,
        example={"profile_id": "foundation/base"},
        errors=(404,),
    ),
}

OF_COLLECTIONS = {
    "GET /collections/": Operation(
        "list_collections",
        COLLECTIONS,
        "List collections",
        "All collections, newest first.",
        {200: listed(ref("Collection"))},
        headers=PAGED,
    ),
    "POST /collections/": Operation(
        "add_collection",
        COLLECTIONS,
        "Add a collection",
        "Reads a folder (its absolute path) or a git repository (`git+https://…@ref#subdirectory=…`)."
        " Nothing of it is executed.",
        {201: ref("CollectionAdded")},
        body=collection_requests.AddCollection,
        example={"identifier": "ours", "source": "/srv/profiles"},
        gives={"name": "$response.body#/id", "collection": "$response.body#/id"},
    ),
    "POST /collections/sync": Operation(
        "sync_collections",
        COLLECTIONS,
        "Read collections anew",
        "Reads the sources of some collections, or of all, anew.",
        {200: ref("SyncResult")},
        body=collection_requests.SyncCollections,
        example={"collections": ["ours"]},
        errors=(404,),
    ),
    "GET /collections/{name}": Operation(
        "get_collection",
        COLLECTIONS,
        "Show a collection",
        "A collection and all that it holds.",
        {200: ref("CollectionDetail")},
    ),
    "DELETE /collections/{name}": Operation(
        "remove_collection",
        COLLECTIONS,
        "Remove a collection",
        "Removes it with its profiles. 403 for those that are shipped, 409 while in use.",
        {200: ref("Success")},
        errors=(409,),
    ),
    "POST /collections/{name}/mount": Operation(
        "mount_collection",
        COLLECTIONS,
        "Add a collection by its path",
        "The same as adding it, as older clients write it.",
        {201: ref("CollectionAdded")},
        body=collection_requests.MountCollection,
        example={"source": "/srv/profiles"},
    ),
}

OF_MODULES = {
    "GET /modules/": Operation(
        "list_modules",
        MODULES,
        "List modules",
        "The daemon's own first, then those of collections, which are listed and never executed.",
        {200: listed(ref("ModuleInfo"))},
        words=("type",),
        headers=("X-Total-Count",),
    ),
    **{
        f"GET /modules/{kinds}": Operation(
            f"list_{kinds}",
            MODULES,
            f"List {kinds}",
            f"The modules that are {kinds}.",
            {200: listed(ref("ModuleInfo"))},
            headers=("X-Total-Count",),
        )
        for kinds in ("providers", "tools", "hooks", "orchestrators")
    },
    "GET /modules/{id}": Operation(
        "get_module",
        MODULES,
        "Show a module",
        "One module; its id may have slashes.",
        {200: ref("ModuleDetail")},
    ),
}

_UPDATE = {"body": collection_requests.UpdateCache, "query": collection_requests.UpdateCacheQuery}
OF_CACHE = {
    "GET /cache/status": Operation(
        "get_cache_status",
        CACHE,
        "See what is behind its source",
        "The state of all collections.",
        {200: ref("CacheStatus")},
    ),
    "GET /cache/status/collections/{collection}": Operation(
        "get_collection_status",
        CACHE,
        "See whether a collection is behind its source",
        "The state of one collection.",
        {200: ref("CollectionCheck")},
    ),
    "GET /cache/status/profiles/{collection}/{name}": Operation(
        "get_profile_status",
        CACHE,
        "See whether a profile is behind its source",
        "The state of one profile.",
        {200: ref("ProfileCheck")},
    ),
    "POST /cache/update": Operation(
        "update_cache",
        CACHE,
        "Bring all collections up to date",
        "Reads what is behind anew; with `check_only` tells what would be.",
        {200: ref("CacheUpdate")},
        example={"check_only": True},
        **_UPDATE,
    ),
    "POST /cache/update/collections/{collection}": Operation(
        "update_cached_collection",
        CACHE,
        "Bring a collection up to date",
        "Reads it anew where it is behind, or always with `force`.",
        {200: ref("CollectionUpdate")},
        example={"force": True},
        **_UPDATE,
    ),
    "POST /cache/update/profiles/{collection}/{name}": Operation(
        "update_cached_profile",
        CACHE,
        "Bring a profile up to date",
        "Reads its collection anew where it is behind, or always with `force`.",
        {200: ref("ProfileUpdate")},
        example={"force": True},
        **_UPDATE,
    ),
}

OPERATIONS = OF_PROFILES | OF_DIRECTORIES | OF_PLANS | OF_COLLECTIONS | OF_MODULES | OF_CACHE
