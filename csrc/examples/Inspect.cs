// Inspects a picture by P/Invoke: Inspect RECIPE PICTURE.ppm. Exits with 1 if it is anomalous, with 2 after an error.
// Names and layouts are those of spadeline.h.
using System;
using System.IO;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Spadeline
{
    public enum Device { Auto, Cpu, Cuda }
    public enum Gallery { Auto, Memory, Mapped }
    public enum Need { Recipe, Map, Mask, Label }
    public enum Color { Gray, Rgb, Bgr, Rgba, Bgra }
    public enum Code { Ok, Argument, Handle, Busy, Recipe, Extractor, Device, Memory, Failed }
    [Flags]
    public enum Reason : uint { Map = 1, Image = 2, Exposure = 4, Contrast = 8, Sharpness = 16, Unlike = 32 }

    [StructLayout(LayoutKind.Sequential)]
    public struct Region
    {
        public long Area;
        public long Top, Left, Bottom, Right;
        public long PeakY, PeakX;
        public double Score;
    }

    [StructLayout(LayoutKind.Sequential)]
    public struct Result
    {
        public long StructSize;
        public int PredLabel;
        public Reason Reasons;
        public Need Need;
        public int Decided;
        public double PredScore, ImageScore, MapScore;
        public long MapHeight, MapWidth;
        public IntPtr AnomalyMap, LowerMap, PredMask;
        public long RegionCount;
        public IntPtr Regions;
        public long GridHeight, GridWidth, Kappa;
        public IntPtr Neighbours;
        public long NearestCount;
        public IntPtr NearestImages;
        public double PrepareS, ExtractS, RetrieveS, MatchS, MapS;
        public long Pairs, Passed0, Passed1, Passed2, Passed3, Exact, GuardedCells, Passes;
        public IntPtr Warning;

        // Copied: what Regions points to is valid until the inspector's next inspection.
        public Region[] CopyRegions()
        {
            var regions = new Region[RegionCount];
            for (int i = 0; i < regions.Length; i++)
                regions[i] = Marshal.PtrToStructure<Region>(Regions + i * Marshal.SizeOf<Region>());
            return regions;
        }
    }

    public class CallError : Exception
    {
        public readonly Code Code;
        public CallError(Code code, string text) : base(text) { Code = code; }
    }

    // A recipe that is loaded. All threads may use it.
    public sealed class Recipe : SafeHandle
    {
        private Recipe() : base(IntPtr.Zero, true) { }
        public override bool IsInvalid => handle == IntPtr.Zero;
        protected override bool ReleaseHandle() { Native.spadeline_free_recipe(handle); return true; }

        public static Recipe Load(string folder, Device device = Device.Auto, Gallery gallery = Gallery.Auto)
        {
            Native.Check(Native.spadeline_load(folder, device, gallery, 0, out Recipe recipe));
            return recipe;
        }
    }

    // One line's inspections. It takes one call at a time.
    public sealed class Inspector : SafeHandle
    {
        private Inspector() : base(IntPtr.Zero, true) { }
        public override bool IsInvalid => handle == IntPtr.Zero;
        protected override bool ReleaseHandle() { Native.spadeline_free_inspector(handle); return true; }

        // A negative deadline is none.
        public static Inspector Open(Recipe recipe, int threads = 0, Need need = Need.Recipe, double deadlineS = -1)
        {
            Native.Check(Native.spadeline_open(recipe, threads, need, deadlineS, out Inspector inspector));
            return inspector;
        }

        // The rows of a pitch of 0 follow each other without gaps.
        public Result Inspect(byte[] pixels, long height, long width, Color color, long pitch = 0)
        {
            long row = width * (color == Color.Gray ? 1 : color == Color.Rgb || color == Color.Bgr ? 3 : 4);
            if (pixels.LongLength < checked((height - 1) * (pitch == 0 ? row : pitch) + row))
                throw new ArgumentException("expected a frame's bytes, got fewer", nameof(pixels));
            Native.Check(Native.spadeline_inspect(this, pixels, height, width, pitch, color, out IntPtr result));
            return Marshal.PtrToStructure<Result>(result);
        }
    }

    internal static class Native
    {
        private const string Library = "spadeline";  // libspadeline.so on Linux
        private const UnmanagedType Text = UnmanagedType.LPUTF8Str;

        [DllImport(Library)]
        public static extern int spadeline_abi();

        [DllImport(Library)]
        private static extern IntPtr spadeline_error();  // the library's own text: it must not be freed

        [DllImport(Library)]
        public static extern Code spadeline_load([MarshalAs(Text)] string folder, Device device, Gallery gallery,
                                                 int verify, out Recipe recipe);

        [DllImport(Library)]
        public static extern void spadeline_free_recipe(IntPtr recipe);

        [DllImport(Library)]
        public static extern Code spadeline_open(Recipe recipe, int threads, Need need, double deadlineS,
                                                 out Inspector inspector);

        [DllImport(Library)]
        public static extern void spadeline_free_inspector(IntPtr inspector);

        [DllImport(Library)]
        public static extern Code spadeline_inspect(Inspector inspector, byte[] pixels, long height, long width,
                                                    long pitch, Color color, out IntPtr result);

        public static void Check(Code code)
        {
            if (code != Code.Ok) throw new CallError(code, Marshal.PtrToStringUTF8(spadeline_error()));
        }
    }

    public static class Program
    {
        public static int Main(string[] arguments)
        {
            try
            {
                if (Native.spadeline_abi() != 1) throw new InvalidDataException("expected ABI 1 of libspadeline.so");
                byte[] file = File.ReadAllBytes(arguments[1]);
                string start = System.Text.Encoding.ASCII.GetString(file, 0, Math.Min(file.Length, 40));
                Match header = Regex.Match(start, @"^P6\s+(\d{1,5})\s+(\d{1,5})\s+255\s");
                if (!header.Success) throw new InvalidDataException("expected a picture P6 of 8 bits");
                int width = int.Parse(header.Groups[1].Value), height = int.Parse(header.Groups[2].Value);
                byte[] pixels = new byte[file.Length - header.Length];
                Array.Copy(file, header.Length, pixels, 0, pixels.Length);

                using (Recipe recipe = Recipe.Load(arguments[0]))
                using (Inspector inspector = Inspector.Open(recipe))
                {
                    Result result = inspector.Inspect(pixels, height, width, Color.Rgb);
                    string label = result.PredLabel == 1 ? "anomalous" : "normal";
                    Console.WriteLine(FormattableString.Invariant($"{label} {result.PredScore:R}"));
                    foreach (Region region in result.CopyRegions())
                        Console.WriteLine(
                            FormattableString.Invariant($"region at {region.PeakY}, {region.PeakX}: {region.Score:R}"));
                    return result.PredLabel;
                }
            }
            catch (Exception error)
            {
                Console.Error.WriteLine(error.Message);
                return 2;
            }
        }
    }
}
